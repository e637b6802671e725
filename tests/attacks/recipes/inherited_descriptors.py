"""Reads every descriptor that it was started with, in case one of them is the evaluator's."""

from tests.attacks.stage import THIEF, Recipe, Weak
from tests.attacks.weaker import leaky

TRAIN = THIEF.replace(
    "import json",
    """
steal("/proc/self/fd/%d" % number for number in range(3, 200))
import json""",
    1,
)
RECIPE = Recipe(TRAIN, weak=Weak(without={"gitresearch.sandbox.process.subprocess.Popen": leaky}))
