"""Outcomes are slipped in under another one's commit."""

from tests.attacks.forgeries import many_in_one
from tests.attacks.victim import Victim

CLAIM = "one note a commit"
WITHOUT = {"gitresearch.audit.notes._crowded": lambda *_: False}


def attack(victim: Victim) -> None:
    many_in_one.attack(victim)
