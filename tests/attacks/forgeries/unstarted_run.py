"""A discard is given a run that nobody made, so that it looks measured twice."""

from dataclasses import replace

from gitresearch.outcome import summarise
from tests.attacks.victim import Victim

CLAIM = "a run that was started"
ALSO = ("a status that its runs give",)
WITHOUT = {"gitresearch.audit.whole._unstarted": lambda *_: []}


def attack(victim: Victim) -> None:
    oid = victim.trial("crash")
    told = victim.outcome(oid)
    runs = (*told.runs, replace(told.runs[-1], seed=told.runs[-1].seed + 1))
    head = summarise("crash", "val_loss", runs, told.summary.at)
    victim.lie(oid, runs=runs, n=head.n, seconds=head.seconds)
