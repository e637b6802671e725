"""Says that it is ready a second time in the middle of its work, to have its clock start anew."""

from tests.attacks.stage import HONEST, READY, Recipe, Weak, ends
from tests.attacks.weaker import starts_anew

TRAIN = READY + "import time\ntime.sleep(0.8)\nos.write(ready, b'1')\ntime.sleep(0.8)\n" + HONEST
WEAK = Weak(without={"gitresearch.sandbox.process.Process._let_in": starts_anew})
RECIPE = Recipe(TRAIN, "train_budget_overrun", WEAK, ends("ok"), budget={"warmup": 20, "train": 1.3})
