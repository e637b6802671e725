"""A run that took more than its budget is called fine."""

from dataclasses import replace

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a run within its budget"
ALSO = ("every run is kept",)
WITHOUT = {"gitresearch.audit.outcomes._run": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    told = victim.outcome(oid)
    victim.lie(oid, runs=(*told.runs[:-1], replace(told.runs[-1], train_seconds=500.0)))
