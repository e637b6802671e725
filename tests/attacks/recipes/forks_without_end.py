"""Forks more processes than it may have."""

from tests.attacks.stage import HONEST, NO_LIMITS, Recipe, ends

TRAIN = (
    HONEST
    + """
import time
for _ in range(40):
    if os.fork() == 0:
        time.sleep(1.2)
        os._exit(0)
time.sleep(1)
"""
)
RECIPE = Recipe(TRAIN, "resource_limit", NO_LIMITS, ends("ok"), budget={"processes": 16})
