"""Closes its output, ends well and leaves nothing, in the hope that nothing counts as the best."""

from tests.attacks.stage import Recipe, Weak

TRAIN = "import os; os.close(1); os.close(2); os._exit(0)"
RECIPE = Recipe(TRAIN, "invalid", Weak("forgives"))
