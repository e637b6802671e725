"""Ignores every signal that can be ignored, and goes on after its time."""

from tests.attacks.stage import HONEST, Recipe, Weak
from tests.attacks.weaker import ASKS_POLITELY

TRAIN = (
    """
import signal, time
for number in range(1, 32):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
time.sleep(0.8)
"""
    + HONEST
)
RECIPE = Recipe(
    TRAIN, "train_budget_overrun", gained=lambda seen: seen.last.run.train_seconds > 0.7, budget={"train": 0.3},
    weak=Weak(level="none", without=ASKS_POLITELY),
)  # fmt: skip
