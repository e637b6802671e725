"""A specialist's name holds a line break and a score."""

import re

from gitresearch.trial import Hypothesis
from tests.attacks.table import Table, git_trailers

WITHOUT = {"gitresearch.trial.NAME": re.compile(r"(?s).*")}


def attack(table: Table) -> bool:
    told = Hypothesis("raise the rate", "demo", "optimizer\nGitresearch-Score: 0.0")
    return "Gitresearch-Score" in git_trailers(told.message())
