"""Looks for its data before it says that it is ready, to train while no clock runs."""

from tests.attacks.stage import HONEST, READY, Recipe, Weak, ends
from tests.attacks.weaker import early

LOOK = """
import os
for place in (os.environ["GITRESEARCH_DATA"], "../kept", "/kept", "/data/kept"):
    if os.path.isdir(place) and os.listdir(place):
        raise SystemExit("found it early")
"""
WEAK = Weak(without={"gitresearch.handover.Handover.__init__": early})
RECIPE = Recipe(LOOK + READY + HONEST, weak=WEAK, gained=ends("crash"), budget={"warmup": 20}, fast=True)
