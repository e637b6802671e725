"""Tells its own time in the log, in every form, and works for longer than that."""

from tests.attacks.stage import HONEST, Recipe, Weak
from tests.attacks.weaker import as_told

TRAIN = (
    HONEST
    + """
import time
time.sleep(0.2)
print("train_seconds: 0.001")
"""
)
RECIPE = Recipe(
    TRAIN, gained=lambda seen: seen.last.run.train_seconds < 0.2,
    weak=Weak(without={"gitresearch.evaluate.Evaluator._seconds": as_told}),
)  # fmt: skip
