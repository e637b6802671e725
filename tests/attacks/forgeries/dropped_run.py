"""A run that went badly is taken out of the outcome."""

from gitresearch.outcome import summarise
from tests.attacks.victim import Victim

CLAIM = "every run is kept"
ALSO = ("a claim on fresh seeds", "every run that was started is recorded")
WITHOUT = {"gitresearch.audit.notes._lost": lambda *_: False}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    told = victim.outcome(oid)
    runs = told.runs[:-1]
    head = summarise("keep", "val_loss", runs, told.summary.at, claimed=True)
    victim.lie(oid, runs=runs, score=head.score, sd=head.sd, n=head.n, seconds=head.seconds)
