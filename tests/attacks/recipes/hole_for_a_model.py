"""Leaves a model of many megabytes that takes no block of the disk, to pass under the cap on its size."""

from tests.attacks.stage import HONEST, Recipe, Weak, ends

TRAIN = (
    HONEST
    + """
os.truncate(os.environ["GITRESEARCH_ARTEFACT"] + "/model", 1 << 24)
"""
)
RECIPE = Recipe(TRAIN, "size_blocked", Weak("counts_blocks"), ends("ok"), budget={"artefact": 100_000})
