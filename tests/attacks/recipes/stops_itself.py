"""Stops itself and what it started, so that whoever waits for it waits for ever."""

from tests.attacks.stage import HONEST, Recipe, Weak
from tests.attacks.weaker import ASKS_POLITELY

TRAIN = (
    """
import os, signal
if os.fork() == 0:
    os.setsid()
    os.kill(os.getpid(), signal.SIGSTOP)
os.kill(os.getpid(), signal.SIGSTOP)
"""
    + HONEST
)
RECIPE = Recipe(
    TRAIN, "train_budget_overrun", budget={"train": 0.3}, gained=lambda seen: seen.last.run.train_seconds > 0.7,
    weak=Weak(level="none", without=ASKS_POLITELY),
)  # fmt: skip
