"""What the recipe printed itself is said to be reproduced."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "trust that was earned"
WITHOUT = {"gitresearch.audit.witnesses._trust": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    victim.lie(oid, environment={**victim.outcome(oid).environment, "trust": "reproduced"})
