"""A second measurement agrees with a score that nobody claimed."""

from tests.attacks.victim import Victim

CLAIM = "a witness of what was measured"
WITHOUT = {"gitresearch.audit.witnesses._unheard": lambda *_: False}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    told = victim.outcome(oid)
    other = told.summary._replace(score=0.5)
    victim.say(oid, victim.looked_at(told, 0.5, other), victim.key)
