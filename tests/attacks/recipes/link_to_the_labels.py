"""Leaves a symbolic link to the hidden labels in place of a model."""

from tests.attacks.stage import Recipe, Weak

TRAIN = "import os; os.symlink(LABELS, os.environ['GITRESEARCH_ARTEFACT'] + '/model')"
RECIPE = Recipe(TRAIN, "invalid", Weak("follows"), fast=True)
