"""Answers probabilities above one, which cost less than nothing."""

from tests.attacks.stage import Recipe, Weak, ends

TRAIN = """
import os
open(os.environ["GITRESEARCH_ARTEFACT"] + "/model", "w").write('[' + '1e9, ' * 31 + '1e9]')
"""
RECIPE = Recipe(TRAIN, "invalid", Weak("loose_json"), ends("ok", "harness_abort"))
