"""Writes to the progress channel without end: rubbish, a line that never ends, a billion steps; to take memory."""

from tests.attacks.stage import HONEST, Recipe, Weak, ends
from tests.attacks.weaker import remembers_all

TRAIN = (
    HONEST
    + """
told = int(os.environ["GITRESEARCH_PROGRESS"])
os.set_blocking(told, False)
for data in (b"9" * 60000, b"\\0\\xff\\n" * 9000, b"1 999999999999999 2\\nnan nan nan\\n" + b"2 3" * 20000) * 400:
    try:
        os.write(told, data)
    except BlockingIOError:
        import time
        time.sleep(0.001)
"""
)
WEAK = Weak(without={"gitresearch.sandbox.channel.Channel._lines": remembers_all})
RECIPE = Recipe(TRAIN, "ok", WEAK, ends("harness_abort"))
