"""A claim is made against runs that nobody made."""

from gitresearch import decision
from gitresearch.outcome import mean
from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a claim against runs that were made"
ALSO = ("a claim by its own arithmetic",)
WITHOUT = {"gitresearch.audit.outcomes._rivals": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    told = victim.outcome(oid)
    gain = 9.0 - mean(decision.values(told, "confirm"))
    victim.lie(oid, decision={**told.decision, "claim_rival": 9.0, "claim_gain": gain, "claim_p": 0.0})
