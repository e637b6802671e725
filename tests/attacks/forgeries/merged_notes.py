"""Two lines of notes are merged, one of which nobody signed."""

from tests.attacks.victim import Victim

CLAIM = "one line of notes commits"
ALSO = ("one note a commit",)
WITHOUT = {"gitresearch.audit.notes._forked": lambda *_: False}


def attack(victim: Victim) -> None:
    tip = victim.git("rev-parse", victim.ref).strip()
    tree = victim.git("rev-parse", f"{tip}^{{tree}}").strip()
    victim.commit(victim.ref, tree, [tip, f"{victim.git('rev-parse', 'main').strip()}"], victim.key)
