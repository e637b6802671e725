"""Leaves a pipe that nobody writes to, so that the reader waits and the harness is blamed."""

from tests.attacks.stage import Recipe, Weak, ends

TRAIN = "import os; os.mkfifo(os.environ['GITRESEARCH_ARTEFACT'] + '/model')"
RECIPE = Recipe(TRAIN, "invalid", Weak("follows"), ends("harness_abort"))
