"""A seed that came out badly is recorded as a witness's first, and the trial is measured after it."""

from dataclasses import replace

from gitresearch.outcome import summarise
from tests.attacks.victim import Victim

CLAIM = "a witness comes after the outcome"
ALSO = ("every run that was started is recorded",)
WITHOUT = {f"gitresearch.audit.witnesses.{rule}": lambda *_: False for rule in ("_alone", "_unheard")}


def attack(victim: Victim) -> None:
    oid, told = victim.measured("LR = 0.3")
    looked = victim.looked_at(told, 0.4)
    bad = looked.runs[-1:]
    head = summarise("discard", "val_loss", bad, told.summary.at, label="witness")
    victim.say(oid, replace(looked, runs=bad, summary=head), victim.key)
    victim.say(oid, replace(looked, runs=(*bad, *told.runs)), victim.key)
