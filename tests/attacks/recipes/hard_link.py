"""Leaves a second name of a file that is somebody else's, the labels where it can."""

from tests.attacks.stage import Recipe, Weak

TRAIN = """
import os
place = os.environ["GITRESEARCH_ARTEFACT"] + "/model"
try:
    os.link(LABELS, place)
except OSError:
    open(place, "w").write("[" + "0.7, " * 31 + "0.7]")
    os.link(place, place + "2")
"""
RECIPE = Recipe(TRAIN, "invalid", Weak("follows", "none"))
