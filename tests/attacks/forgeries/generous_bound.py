"""A gate's bound is written better than its numbers give."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a decision by its own arithmetic"
WITHOUT = {"gitresearch.audit.outcomes._verdict": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    victim.lie(oid, decision={**victim.outcome(oid).decision, "gate_1_bound": 0.1})
