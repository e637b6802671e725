"""A second measurement that came to something else is said to agree."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a witness by its own arithmetic"
WITHOUT = {"gitresearch.audit.witnesses._agreement": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    victim.say(oid, victim.looked_at(victim.outcome(oid), 0.5, verdict="agrees", p=0.5), victim.key)
