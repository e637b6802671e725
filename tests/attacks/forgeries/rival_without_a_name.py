"""A run that says of no trial that it was this one stands among those of a claim's rival."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a run of the trial it is told of"
WITHOUT = {"gitresearch.audit.outcomes._run": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    victim.lie(oid, runs=victim.further(oid, "rival"))
