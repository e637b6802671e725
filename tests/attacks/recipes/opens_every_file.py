"""Opens files until the whole system has none left to open."""

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
RECIPE = Recipe(TRAIN, gained=ends("crash"), weak=Weak(without={"gitresearch.sandbox.process.OPEN_FILES": 1 << 20}))
