"""Kills what runs beside it, so that nothing bad is ever written down."""

from tests.attacks.stage import HONEST, Recipe

TRAIN = (
    HONEST
    + """
import signal
for pid in (VICTIM, -VICTIM):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
"""
)


RECIPE = Recipe(TRAIN, gained=lambda seen: seen.stage.victim_died)
