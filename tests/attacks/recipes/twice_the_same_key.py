"""Answers with a key that stands twice, so that two readers see two answers."""

from tests.attacks.stage import Recipe, Weak, ends

TRAIN = """
import os
one, other = ("[" + f"{p}, " * 31 + f"{p}]" for p in (0.7, 0.9))
open(os.environ["GITRESEARCH_ARTEFACT"] + "/model", "w").write('{"p": ' + one + ', "p": ' + other + "}")
"""
RECIPE = Recipe(TRAIN, "invalid", Weak("loose_json"), ends("ok"))
