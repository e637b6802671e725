"""The evaluator measured with another hook than the study's."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "measured for this hook"
WITHOUT = {"gitresearch.audit.outcomes._binding": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    victim.lie(oid, binding={**victim.outcome(oid).binding, "hook": "sha256:0"})
