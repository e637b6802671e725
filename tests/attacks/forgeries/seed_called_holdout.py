"""A fresh seed that went badly is called a run on the holdout, and another is drawn for it."""

from dataclasses import replace

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a holdout for what was confirmed"
WITHOUT = {"gitresearch.audit.holdouts.check": nothing}


def attack(victim: Victim) -> None:
    oid, told = victim.measured("LR = 0.3")
    bad = replace(told.runs[-1], seed=666, purpose="holdout", metrics={"val_loss": 0.9}, wall_seconds=0.0)
    victim.start(oid, 666, "holdout")
    victim.say(oid, replace(told, runs=(told.runs[0], bad, *told.runs[1:])), victim.key)
