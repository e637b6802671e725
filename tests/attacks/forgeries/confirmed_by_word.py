"""A trial is called confirmed without a claim."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "confirmed by a claim"
WITHOUT = {"gitresearch.audit.outcomes._unclaimed": nothing}


def attack(victim: Victim) -> None:
    victim.lie(victim.trial("discard"), confirmed=True)
