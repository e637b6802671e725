"""Answers 1e999, which a parser reads as infinity and no sum survives."""

from tests.attacks.stage import Recipe, Weak, ends

TRAIN = """
import os
open(os.environ["GITRESEARCH_ARTEFACT"] + "/model", "w").write('[' + '1e999, ' * 31 + '1e999]')
"""
RECIPE = Recipe(TRAIN, "invalid", Weak("loose_json"), ends("ok", "harness_abort"))
