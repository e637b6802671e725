"""A claim spends more of alpha than is its share."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a claim by its own arithmetic"
WITHOUT = {"gitresearch.audit.outcomes._claim": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    victim.lie(oid, decision={**victim.outcome(oid).decision, "claim_alpha": 0.5})
