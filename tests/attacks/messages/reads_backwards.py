"""A hypothesis reads otherwise than it is written, by characters that turn text round."""

from gitresearch.text import is_safe
from gitresearch.trial import Hypothesis
from tests.attacks.table import Table

WITHOUT = {"gitresearch.trial.one_line": lambda text, *_: text, "gitresearch.trial.require_safe": lambda text, *_: text}


def attack(table: Table) -> bool:
    return not is_safe(Hypothesis.from_text("raise \u202eetar eht\u2066", study="demo", specialist="one").subject)
