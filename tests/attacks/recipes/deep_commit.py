"""Commits a tree deeper than any program walks."""

from tests.attacks.stage import Recipe, Weak, ends
from tests.attacks.weaker import checkout

RECIPE = Recipe(
    status="preflight_crash", files={"d/" * 60 + "file": "x"}, gained=ends("ok"),
    weak=Weak(without={"gitresearch.repo.content.Content.export": checkout}),
)  # fmt: skip
