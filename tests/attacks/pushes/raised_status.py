"""The evaluator itself calls a discard a keep."""

from tests.attacks.pushes import nothing
from tests.attacks.victim import Victim

CLAIM = "a status that its runs give"
WITHOUT = {"gitresearch.audit.outcomes._status": nothing}


def attack(victim: Victim) -> None:
    victim.lie(victim.trial("discard"), status="keep")
