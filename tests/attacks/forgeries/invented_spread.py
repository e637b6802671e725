"""A gate is passed by a spread that is smaller than any the baseline had."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a spread that was measured"
WITHOUT = {"gitresearch.audit.outcomes._spreads": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    told = victim.outcome(oid)
    facts = {**told.decision, "known_sd": 1e-9, "gate_1_known_sd": 1e-9}
    victim.lie(oid, decision=facts | victim.looked(facts, told.runs[1:2]))
