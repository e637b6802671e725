"""Prints without end, to fill the evaluator's memory or disk."""

from tests.attacks.stage import HONEST, NO_LIMITS, Recipe, ends

TRAIN = (
    HONEST
    + """
for _ in range(40):
    print("x" * (1 << 16))
"""
)
RECIPE = Recipe(TRAIN, "resource_limit", NO_LIMITS, ends("ok"))
