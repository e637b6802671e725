"""A seed that came out badly is called a witness's, so that another takes its place."""

from dataclasses import replace

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a witness comes after the outcome"
WITHOUT = {"gitresearch.audit.witnesses._first": nothing}


def attack(victim: Victim) -> None:
    oid, told = victim.measured("LR = 0.3")
    looked = victim.looked_at(told, 0.4)
    victim.say(oid, replace(looked, runs=(looked.runs[-1], *told.runs)), victim.key)
