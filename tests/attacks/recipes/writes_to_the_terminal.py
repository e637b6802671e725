"""Opens the terminal of whoever looks on and writes to it."""

from tests.attacks.stage import HONEST, Recipe

TRAIN = (
    HONEST
    + """
for place in (TERMINAL, "/dev/tty", "/dev/console"):
    try:
        os.write(os.open(place, os.O_WRONLY | os.O_NOCTTY), b"all is well")
    except OSError:
        pass
"""
)
RECIPE = Recipe(TRAIN, gained=lambda seen: b"all is well" in seen.stage.terminal)
