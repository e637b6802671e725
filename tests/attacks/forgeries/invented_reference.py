"""A verdict is reached against a score that the reference never had."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "compared with a score that was measured"
ALSO = ("a status that its runs give", "as many runs as the study asks for")
WITHOUT = {"gitresearch.audit.outcomes._references": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    told = victim.outcome(oid)
    score = told.decision["score"]
    victim.lie(oid, decision={**told.decision, "reference": score + 0.001, "gain": 0.001})
