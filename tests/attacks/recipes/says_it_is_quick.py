"""Says that it is nearly done for as long as it runs, to be let past its budget."""

from tests.attacks.stage import HONEST, NO_LIMITS, Recipe, ends

TRAIN = (
    """
import os, time
for _ in range(16):
    os.write(int(os.environ["GITRESEARCH_PROGRESS"]), b"15 16 0.1\\n")
    time.sleep(0.1)
"""
    + HONEST
)
RECIPE = Recipe(TRAIN, "train_budget_overrun", NO_LIMITS, ends("ok"), budget={"train": 0.8})
