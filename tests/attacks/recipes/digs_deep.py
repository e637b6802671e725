"""Nests folders so deep that programs which walk them end."""

from tests.attacks.stage import HONEST, Recipe, Weak, ends

TRAIN = (
    HONEST
    + """
for _ in range(300):
    os.mkdir("d")
    os.chdir("d")
"""
)
RECIPE = Recipe(
    TRAIN, "resource_limit", gained=ends("ok"), weak=Weak(without={"gitresearch.sandbox.footprint.DEEPEST": 10_000})
)
