"""Answers with brackets so deep that the reader breaks and the harness is blamed."""

from tests.attacks.stage import Recipe, Weak, ends

TRAIN = """
import os
open(os.environ["GITRESEARCH_ARTEFACT"] + "/model", "w").write('[' * 100000)
"""
RECIPE = Recipe(TRAIN, "invalid", Weak("loose_json"), ends("harness_abort"))
