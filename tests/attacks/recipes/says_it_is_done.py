"""Says that it is done and that its loss is perfect, to be scored by that or left alone by the clock."""

from tests.attacks.stage import HONEST, Recipe, Weak, better
from tests.attacks.weaker import believes_progress

TRAIN = (
    HONEST
    + """
import time
told = int(os.environ["GITRESEARCH_PROGRESS"])
for _ in range(9):
    os.write(told, b"9 9 0.0\\n")
    time.sleep(0.05)
"""
)
WEAK = Weak(without={"gitresearch.evaluate.Evaluator._take": believes_progress})
RECIPE = Recipe(TRAIN, "ok", WEAK, better)
