"""A trial puts a link in the place of its program."""

from tests.attacks.pushes import nothing
from tests.attacks.victim import Victim

CLAIM = "ordinary files only"
WITHOUT = {f"gitresearch.audit.trials.{rule}": nothing for rule in ("_modes", "_paths", "_edits")}


def attack(victim: Victim) -> None:
    victim.add("main", {"train.py": ("120000", b"/etc/passwd")})
