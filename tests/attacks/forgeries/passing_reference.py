"""The head is said to be bad while a worse trial is kept against it, and then told truly again."""

from dataclasses import replace

from gitresearch.outcome import summarise
from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "the head folds the runs"
ALSO = ("as many runs as the study asks for",)
WITHOUT = {"gitresearch.audit.whole._earlier": nothing}


def attack(victim: Victim) -> None:
    keep = victim.trial("keep")
    told = victim.outcome(keep)
    oid, made = victim.measured("LR = 0.3")
    score = told.summary.score or 0.0
    victim.lie(keep, score=score + 1)
    runs = tuple(replace(run, metrics={"val_loss": score + 0.5}) for run in made.runs)
    facts = {**made.decision, "reference": score + 1, "score": score + 0.5, "gain": 0.5}
    head = summarise("keep", "val_loss", runs, made.summary.at)
    victim.say(oid, replace(made, runs=runs, decision=facts, summary=head), victim.key)
    victim.say(keep, told, victim.key)
