"""A lucky run is counted twice."""

from gitresearch.outcome import summarise
from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a seed of its own for each run"
ALSO = ("a claim by its own arithmetic",)
WITHOUT = {"gitresearch.audit.outcomes.figures": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    told = victim.outcome(oid)
    runs = (*told.runs, told.runs[-1])
    head = summarise("keep", "val_loss", runs, told.summary.at, claimed=True)
    victim.lie(oid, runs=runs, score=head.score, sd=head.sd, n=head.n, seconds=head.seconds)
