"""A hypothesis holds the line that git takes for the end of a message, so that its trailers are not seen."""

import re

from gitresearch.trial import Hypothesis
from tests.attacks.table import Table, git_trailers

WITHOUT = {"gitresearch.trial.tidy_body": str, "gitresearch.trial._UNTIDY": re.compile("(?!)")}


def attack(table: Table) -> bool:
    told = Hypothesis.from_text("raise the rate", "It learns.\n---\nOr so.", study="demo", specialist="optimizer")
    return "Specialist: " not in git_trailers(told.message())
