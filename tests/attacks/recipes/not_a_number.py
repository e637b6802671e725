"""Answers NaN, which no comparison refuses."""

from tests.attacks.stage import Recipe, Weak, ends

TRAIN = """
import os
open(os.environ["GITRESEARCH_ARTEFACT"] + "/model", "w").write('[' + 'NaN, ' * 31 + 'NaN]')
"""
RECIPE = Recipe(TRAIN, "invalid", Weak("loose_json"), ends("ok", "harness_abort"))
