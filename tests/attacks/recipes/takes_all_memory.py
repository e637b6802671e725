"""Takes more memory than it may have, spread over processes."""

from tests.attacks.stage import HONEST, NO_LIMITS, Recipe, ends

TRAIN = (
    HONEST
    + """
import time
for _ in range(3):
    if os.fork() == 0:
        block = b"x" * (50 << 20)
        time.sleep(1.2)
        os._exit(0)
time.sleep(1)
"""
)
RECIPE = Recipe(TRAIN, "resource_limit", NO_LIMITS, ends("ok"), budget={"memory": 100})
