"""A trial edits the study's own file."""

from tests.attacks.pushes import nothing
from tests.attacks.victim import Victim

CLAIM = "an edit within its surface"
WITHOUT = {"gitresearch.audit.trials._edits": nothing}


def attack(victim: Victim) -> None:
    victim.add("main", {"study.toml": b"name = 'easy'\n"})
