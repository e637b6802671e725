"""Leaves a socket for a model, which can't be opened, so that the harness is blamed."""

from tests.attacks.stage import Recipe, Weak, ends

TRAIN = """
import os, socket
socket.socket(socket.AF_UNIX).bind(os.environ["GITRESEARCH_ARTEFACT"] + "/model")
"""
RECIPE = Recipe(TRAIN, "invalid", Weak("follows"), ends("harness_abort"))
