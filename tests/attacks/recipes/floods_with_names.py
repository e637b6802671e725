"""Makes so many empty files that the file system has no names left, though no byte is used."""

from tests.attacks.stage import HONEST, Recipe, Weak, ends

TRAIN = (
    HONEST
    + """
for number in range(1200):
    open("file%d" % number, "wb").close()
"""
)
RECIPE = Recipe(
    TRAIN, "resource_limit", gained=ends("ok"), budget={"disk": 4},
    weak=Weak(without={"gitresearch.sandbox.footprint.BLOCK": 0}),
)  # fmt: skip
