"""Goes on training while it is asked for predictions, beyond what evaluation may take."""

from tests.attacks.stage import NO_LIMITS, PREDICTOR, Recipe, ends

PREDICT = (
    """
import time
time.sleep(0.7)
"""
    + PREDICTOR
)
RECIPE = Recipe(status="eval_budget_overrun", weak=NO_LIMITS, predict=PREDICT, gained=ends("ok"), budget={"score": 0.3})
