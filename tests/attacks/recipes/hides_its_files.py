"""Writes into files that it has deleted and into files in memory, which no look at folders or processes finds."""

from tests.attacks.stage import HONEST, Recipe, Weak, ends

TRAIN = (
    HONEST
    + """
import time
held = []
for number in range(4):
    held.append(os.open("file", os.O_RDWR | os.O_CREAT))
    os.unlink("file")
    held.append(os.memfd_create("file"))
    for handle in held[-2:]:
        os.write(handle, b"x" * (3 << 20))
time.sleep(2.5)
"""
)
WEAK = Weak(without={"gitresearch.sandbox.footprint.nameless": lambda _: 0})
RECIPE = Recipe(TRAIN, "resource_limit", WEAK, ends("ok"), budget={"disk": 10})
