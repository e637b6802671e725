"""The baseline moved, and its outcome says that it is steady."""

from gitresearch import drift
from gitresearch.study import load
from tests.attacks.forgeries import nothing
from tests.attacks.victim import STUDY, Victim

CLAIM = "a drift that its runs give"
WITHOUT = {"gitresearch.audit.outcomes._drift": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("baseline")
    runs = victim.further(oid, "drift", metrics={"val_loss": 0.3})
    facts = drift.facts(load(STUDY), runs)
    assert facts["drift_verdict"] == "moved"
    victim.lie(oid, runs=runs, decision={**facts, "drift_verdict": "steady"})
