"""A run that says of no trial that it was this one stands among those of a claim's rival."""

from dataclasses import replace

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a run of the trial it is told of"
WITHOUT = {"gitresearch.audit.outcomes._run": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    told = victim.outcome(oid)
    last = told.runs[-1]
    victim.start(oid, last.seed + 1, "rival")
    victim.lie(oid, runs=(*told.runs, replace(last, seed=last.seed + 1, purpose="rival", wall_seconds=0.0)))
