"""A recorded run is given another score afterwards."""

from dataclasses import replace

from tests.attacks.victim import Victim

CLAIM = "every run is kept"
ALSO = ("a run that was started", "every run that was started is recorded")
WITHOUT = {"gitresearch.audit.notes._lost": lambda *_: False}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    told = victim.outcome(oid)
    victim.lie(oid, runs=(replace(told.runs[0], seed=told.runs[0].seed + 1), *told.runs[1:]))
