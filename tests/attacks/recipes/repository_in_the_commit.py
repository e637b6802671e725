"""Commits a submodule, to have a program of its own choice fetched and run."""

from tests.attacks.stage import Recipe, Weak, ends
from tests.attacks.weaker import checkout

RECIPE = Recipe(
    status="preflight_crash", files={"vendor": "3" * 40}, modes={"vendor": "160000"}, gained=ends("ok"),
    weak=Weak(without={"gitresearch.repo.content.Content.export": checkout}),
)  # fmt: skip
