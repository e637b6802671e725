"""An outcome says that it was measured by another hook."""

from tests.attacks.pushes import nothing
from tests.attacks.victim import Victim

CLAIM = "measured for this hook"
WITHOUT = {"gitresearch.audit.outcomes._binding": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    victim.lie(oid, binding={**victim.outcome(oid).binding, "hook": "sha256:0"})
