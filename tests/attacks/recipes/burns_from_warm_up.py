"""Starts a process while it warms up, which goes on computing when processor time counts."""

from tests.attacks.stage import HONEST, READY, Recipe, Weak, ends
from tests.attacks.weaker import ONE_PROCESS

BURN = """
import os, time
if os.fork() == 0:
    os.setsid()
    end = time.process_time() + 1.5
    while time.process_time() < end:
        pass
    open("computed", "w").close()
    os._exit(0)
"""
TRAIN = BURN + READY + "while not os.path.exists('computed'):\n    time.sleep(0.05)\n" + HONEST
RECIPE = Recipe(
    TRAIN, "train_budget_overrun", Weak(without=ONE_PROCESS), ends("ok"),
    budget={"clock": "cpu", "warmup": 20, "train": 0.4},
)  # fmt: skip
