"""Names its files like Python's own modules, start-up files and test settings, to run in the judge."""

from tests.attacks.stage import Recipe, Weak

EVIL = "def fmean(_): return 0.0"
NAMES = (
    "statistics.py",
    "sitecustomize.py",
    "usercustomize.py",
    "conftest.py",
    "evil.pth",
    "pickle.py",
    "hook/__init__.py",
)
RECIPE = Recipe(files=dict.fromkeys(NAMES, EVIL), weak=Weak("looks_in_the_tree"))
