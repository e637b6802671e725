"""An outcome is taken away by a signed commit."""

from tests.attacks.forgeries import removed_note
from tests.attacks.victim import Victim

CLAIM = "a note, once made, stays"
WITHOUT = {"gitresearch.audit.notes._gone": lambda *_: False}


def attack(victim: Victim) -> None:
    removed_note.attack(victim)
