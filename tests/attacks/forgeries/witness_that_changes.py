"""With a second measurement something else of the outcome changes: here since when it counts."""

from dataclasses import replace

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a witness changes nothing else"
WITHOUT = {"gitresearch.audit.witnesses._step": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    told = victim.outcome(oid)
    looked = victim.looked_at(told, told.summary.score or 0.0)
    victim.say(oid, replace(looked, summary=looked.summary._replace(at="2020-01-01T00:00:00Z")), victim.key)
