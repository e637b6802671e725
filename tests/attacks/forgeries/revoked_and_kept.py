"""An outcome that was taken back is a keep again later."""

from gitresearch.witness import revoked
from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "what is taken back stays so"
WITHOUT = {"gitresearch.audit.witnesses._step": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    told = victim.outcome(oid)
    victim.say(oid, revoked(told, "the disk was full"), victim.key)
    victim.say(oid, told, victim.key)
