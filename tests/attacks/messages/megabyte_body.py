"""A hypothesis of a megabyte, to fill every clone and every screen."""

from gitresearch.trial import Hypothesis
from tests.attacks.table import Table

WITHOUT = {"gitresearch.trial.clean": lambda text, *_: text, "gitresearch.trial.require_safe": lambda text, *_: text}


def attack(table: Table) -> bool:
    told = Hypothesis.from_text("raise the rate", "word " * 200_000, study="demo", specialist="optimizer")
    return len(told.message()) > 100_000
