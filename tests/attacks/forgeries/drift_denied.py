"""The baseline moved, and its outcome says that it is steady."""

from dataclasses import replace

from gitresearch import drift
from gitresearch.study import load
from tests.attacks.forgeries import nothing
from tests.attacks.victim import STUDY, Victim

CLAIM = "a drift that its runs give"
WITHOUT = {"gitresearch.audit.outcomes._drift": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("baseline")
    told = victim.outcome(oid)
    last = told.runs[-1]
    run = replace(last, seed=last.seed + 1, purpose="drift", metrics={"val_loss": 0.3}, wall_seconds=0.0)
    victim.start(oid, run.seed, "drift")
    runs = (*told.runs, run)
    facts = drift.facts(load(STUDY), runs)
    assert facts["drift_verdict"] == "moved"
    victim.lie(oid, runs=runs, decision={**facts, "drift_verdict": "steady"})
