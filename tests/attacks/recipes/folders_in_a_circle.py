"""Leaves links that lead back to their own folder, so that whoever walks them never ends."""

from tests.attacks.stage import Recipe, Weak, ends

TRAIN = """
import os
os.chdir(os.environ["GITRESEARCH_ARTEFACT"])
for name in ("a", "b"):
    os.symlink(".", name)
"""
RECIPE = Recipe(TRAIN, "invalid", Weak("walks_into_links"), ends("harness_abort"))
