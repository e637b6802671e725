"""Warms up for longer than it may, in the hope that only what follows is limited."""

from tests.attacks.stage import HONEST, NO_LIMITS, READY, Recipe, ends

TRAIN = "import time\ntime.sleep(0.8)\n" + READY + HONEST
RECIPE = Recipe(TRAIN, "train_budget_overrun", NO_LIMITS, ends("ok"), budget={"warmup": 0.3})
