"""Leaves a table beside its code for the predictor to find, where no cap counts it."""

from tests.attacks.stage import HONEST, PREDICTOR, Recipe, Weak, ends
from tests.attacks.weaker import once

TRAIN = (
    HONEST
    + """
open("memo", "w").write("[0, 1]")
"""
)
PREDICT = (
    """
import os
if os.path.exists("memo"):
    raise SystemExit("found the memo")
"""
    + PREDICTOR
)
RECIPE = Recipe(
    TRAIN, predict=PREDICT, gained=ends("crash"),
    weak=Weak(without={"gitresearch.evaluate.remove": id, "gitresearch.evaluate.Evaluator._export": once}),
)  # fmt: skip
