"""A trial that nobody measured is kept on the word of a witness alone."""

from dataclasses import replace

from gitresearch.outcome import summarise
from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a status that its runs give"
ALSO = ("a witness comes after the outcome", "every run that was started is recorded")
WITHOUT = {"gitresearch.audit.witnesses._status": nothing}


def attack(victim: Victim) -> None:
    oid, told = victim.measured("LR = 0.3")
    looked = victim.looked_at(replace(told, runs=()), 0.125)
    head = summarise("keep", "val_loss", looked.runs, told.summary.at)
    victim.say(oid, replace(looked, summary=head), victim.key)
