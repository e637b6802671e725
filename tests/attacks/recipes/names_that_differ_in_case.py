"""Commits two files whose names differ in case alone, so that what runs depends on the disk."""

from tests.attacks.stage import Recipe, Weak, ends
from tests.attacks.weaker import checkout

RECIPE = Recipe(
    status="preflight_crash", files={"Train.py": "print('another')"}, gained=ends("ok"),
    weak=Weak(without={"gitresearch.repo.content.Content.export": checkout})
)  # fmt: skip
