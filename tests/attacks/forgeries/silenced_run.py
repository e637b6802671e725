"""A claim's run that went badly is left to be forgotten while the evaluator goes on with other things."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "every run that was started is recorded"
WITHOUT = {"gitresearch.audit.whole._overdue": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    victim.start(oid, 666, "confirm", ago=7 * 24 * 3600)
    victim.lie(oid, reason="on with other things")
