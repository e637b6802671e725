"""Answers true, which Python takes for the number one."""

from tests.attacks.stage import Recipe, Weak, ends

TRAIN = """
import os
open(os.environ["GITRESEARCH_ARTEFACT"] + "/model", "w").write('[' + '0.9, ' * 31 + 'true]')
"""
RECIPE = Recipe(TRAIN, "invalid", Weak("loose_json"), ends("ok"))
