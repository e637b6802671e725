"""Commits a link to the labels where its code looks for data."""

from tests.attacks.stage import THIEF, Recipe, Weak
from tests.attacks.weaker import checkout

TRAIN = THIEF.replace("import json", "steal(['data'])\nimport json", 1)
RECIPE = Recipe(
    TRAIN, "preflight_crash", files={"data": "LABELS"}, modes={"data": "120000"},
    weak=Weak(level="none", without={"gitresearch.repo.content.Content.export": checkout})
)  # fmt: skip
