"""Fills the disk with files that are each small enough."""

from tests.attacks.stage import HONEST, NO_LIMITS, Recipe, ends

TRAIN = (
    HONEST
    + """
for number in range(8):
    open("file%d" % number, "wb").write(b"x" * (1 << 20))
"""
)
RECIPE = Recipe(TRAIN, "resource_limit", NO_LIMITS, ends("ok"), budget={"disk": 4})
