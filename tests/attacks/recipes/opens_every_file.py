"""Opens files until the whole system has none left to open."""

from gitresearch.sandbox import Limits
from tests.attacks.stage import HONEST, Recipe, Weak, ends

TRAIN = (
    """
import os, resource
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
except (OSError, ValueError):
    pass
held = []
try:
    while len(held) < 9000:
        held.append(os.dup(0))
except OSError:
    pass
for handle in held:
    os.close(handle)
open(os.environ["GITRESEARCH_ARTEFACT"] + "/count", "w").write(str(len(held)))
if len(held) >= 9000:
    raise SystemExit("opened all of them")
"""
    + HONEST
)
MANY = {"gitresearch.evaluate.Evaluator._run_limits": lambda *_: Limits(60.0, open_files=1 << 20)}
RECIPE = Recipe(TRAIN, gained=ends("crash"), weak=Weak(without=MANY))
