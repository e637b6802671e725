"""Looks for keys in its environment and in that of every process it can see."""

from tests.attacks.stage import CANARY, Recipe

TRAIN = """
import glob, os, sys
found = repr(dict(os.environ))
for path in [*glob.glob("/proc/[0-9]*/environ"), "/proc/%d/environ" % VICTIM]:
    try:
        found += open(path).read()
    except (OSError, UnicodeDecodeError):
        pass
sys.exit(found[found.find("sk-") :][:20] if "sk-" in found else "nothing")
"""
RECIPE = Recipe(TRAIN, "crash", gained=lambda seen: CANARY in seen.told)
