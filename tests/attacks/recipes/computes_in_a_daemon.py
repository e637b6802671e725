"""Leaves its computing to a process in a session of its own and sleeps, where processor time counts."""

from tests.attacks.stage import HONEST, Recipe, Weak, ends
from tests.attacks.weaker import ONE_PROCESS

TRAIN = (
    """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        end = time.process_time() + 1.0
        while time.process_time() < end:
            pass
        open("computed", "w").close()
    os._exit(0)
os.wait()
while not os.path.exists("computed"):
    time.sleep(0.05)
"""
    + HONEST
)
RECIPE = Recipe(
    TRAIN, "train_budget_overrun", gained=ends("ok"), budget={"clock": "cpu", "train": 0.4},
    weak=Weak(without=ONE_PROCESS),
)  # fmt: skip
