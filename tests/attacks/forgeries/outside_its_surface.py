"""A trial edits what its specialist may not."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "an edit within its surface"
WITHOUT = {"gitresearch.audit.trials._edits": nothing}


def attack(victim: Victim) -> None:
    victim.add("main", {"notes.txt": b"read me\n"})
