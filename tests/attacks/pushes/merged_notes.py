"""The line of notes is joined with another history."""

from tests.attacks.forgeries import merged_notes
from tests.attacks.victim import Victim

CLAIM = "one line of notes commits"
WITHOUT = {"gitresearch.audit.notes._forked": lambda *_: False, "gitresearch.audit.notes._crowded": lambda *_: False}


def attack(victim: Victim) -> None:
    merged_notes.attack(victim)
