"""A trial puts a link in the place of its program."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "ordinary files only"
ALSO = ("an edit within its surface",)
WITHOUT = {"gitresearch.audit.trials._modes": nothing}


def attack(victim: Victim) -> None:
    victim.add("main", {"train.py": ("120000", b"/etc/passwd")})
