"""One trial was measured on other data than the baseline."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "measured for this data"
WITHOUT = {"gitresearch.audit.outcomes._binding": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    victim.lie(oid, binding={**victim.outcome(oid).binding, "data": "sha256:easy"})
