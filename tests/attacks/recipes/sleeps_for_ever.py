"""Sleeps where processor time counts, and holds the machine for as long as it likes."""

from tests.attacks.stage import HONEST, NO_LIMITS, Recipe, ends

TRAIN = "import time\ntime.sleep(1.2)\n" + HONEST
RECIPE = Recipe(
    TRAIN, "train_budget_overrun", NO_LIMITS, ends("ok"), budget={"clock": "cpu", "train": 0.1},
    both={"gitresearch.stages.WALL_GRACE": 0.1},
)  # fmt: skip
