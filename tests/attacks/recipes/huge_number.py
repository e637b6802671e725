"""Answers with whole numbers of 400 digits, from which a reader works out a score beyond all others."""

from tests.attacks.stage import Recipe, Weak

TRAIN = """
import os
open(os.environ["GITRESEARCH_ARTEFACT"] + "/model", "w").write('[' + '-' + ('9' * 400 + ', -') * 31 + '9' * 400 + ']')
"""
RECIPE = Recipe(TRAIN, "invalid", Weak("loose_json"))
