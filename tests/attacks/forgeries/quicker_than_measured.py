"""A study scored by time: a run's score is less than the seconds that were measured."""

from dataclasses import replace

from gitresearch.outcome import OWN_METRICS
from tests.attacks.victim import Victim

CLAIM = "measured by the evaluator itself"
ALSO = ("every run is kept",)
WITHOUT = {"gitresearch.audit.outcomes.OWN_METRICS": OWN_METRICS - {"train_seconds"}}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    told = victim.outcome(oid)
    first, *rest = told.runs
    victim.lie(oid, runs=(replace(first, metrics={**first.metrics, "train_seconds": first.train_seconds / 2}), *rest))
