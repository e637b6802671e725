"""A trial that crashed is called a keep."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a status that its runs give"
WITHOUT = {"gitresearch.audit.outcomes._status": nothing}


def attack(victim: Victim) -> None:
    victim.lie(victim.trial("crash"), status="keep")
