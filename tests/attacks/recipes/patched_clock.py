"""Patches every clock that it can reach, and works for longer than it may."""

from tests.attacks.stage import HONEST, NO_LIMITS, Recipe, ends

TRAIN = (
    """
import time
started = time.monotonic()
sleep = time.sleep
for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
    setattr(time, name, lambda: started)
sleep(0.6)
"""
    + HONEST
)
RECIPE = Recipe(TRAIN, "train_budget_overrun", NO_LIMITS, ends("ok"), budget={"train": 0.3})
