"""A trial that lost is said to have been stopped early, in a study that stops nothing."""

from dataclasses import replace

from gitresearch.outcome import summarise
from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a status that its runs give"
ALSO = ("every run is kept",)
WITHOUT = {"gitresearch.audit.outcomes._early": nothing}


def attack(victim: Victim) -> None:
    told = victim.outcome(victim.trial("discard"))
    runs = tuple(replace(run, status="early_stop", metrics={}) for run in told.runs)
    head = summarise("early_stop", "val_loss", runs, told.summary.at, label="curve")
    victim.say(victim.trial("discard"), replace(told, summary=head, runs=runs, decision={}), victim.key)
