"""Writes its own judge over the hook, in its commit and where the evaluator keeps it."""

from tests.attacks.stage import HONEST, Recipe

JUDGE = """
import json, sys
json.load(sys.stdin)
print(json.dumps({"ok": True, "artefact_bytes": 1, "metrics": {"bits": 0.0}}))
"""
TRAIN = (
    HONEST
    + f"""
for place in (HOOK, "hook.py", "../hook.py"):
    try:
        open(place, "w").write({JUDGE!r})
    except OSError:
        pass
"""
)
RECIPE = Recipe(TRAIN, files={"hook.py": JUDGE}, purposes=("screen", "head"))
