"""Opens the labels by their path, and by every path that could lead to them."""

from tests.attacks.stage import THIEF, Recipe

TRAIN = THIEF.replace(
    "import json",
    """
up = ["../" * depth + LABELS.lstrip("/") for depth in range(1, 12)]
steal([LABELS, *up, *("/proc/%s/root%s" % (pid, LABELS) for pid in os.listdir("/proc")), "/oldroot" + LABELS])
import json""",
    1,
)
RECIPE = Recipe(TRAIN, fast=True)
