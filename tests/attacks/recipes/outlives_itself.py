"""Leaves a process in a session of its own that works on for the next run."""

from tests.attacks.stage import HONEST, Recipe, Weak, still_there

TRAIN = (
    HONEST
    + """
import time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/bin/sleep", ["sleep", WORD])
    time.sleep(0.3)
    os._exit(0)
time.sleep(0.15)
"""
)
RECIPE = Recipe(
    TRAIN, gained=still_there, weak=Weak(level="none", without={
        "gitresearch.sandbox.process.Process._end_survivors": lambda _: None,
    }),
)  # fmt: skip
