"""The evaluator writes a better score than its runs give."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "the head folds the runs"
WITHOUT = {"gitresearch.audit.outcomes.figures": nothing}


def attack(victim: Victim) -> None:
    victim.lie(victim.trial("discard"), score=0.001)
