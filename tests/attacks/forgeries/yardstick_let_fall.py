"""A study scored by seconds of reference: a run that was held against no yardstick."""

from dataclasses import replace

from gitresearch.outcome import SLOWDOWNS
from tests.attacks.victim import Victim

CLAIM = "a clock held against a yardstick"
ALSO = ("every run is kept",)
WITHOUT = {"gitresearch.audit.outcomes.SLOWDOWNS": (0.0, SLOWDOWNS[1])}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    told = victim.outcome(oid)
    first, *rest = told.runs
    taken = {**first.metrics, "reference_seconds": first.reference_seconds}
    victim.lie(oid, runs=(replace(first, metrics=taken), *rest))
