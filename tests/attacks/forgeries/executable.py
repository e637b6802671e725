"""A trial makes a file executable."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "ordinary files only"
WITHOUT = {"gitresearch.audit.trials._modes": nothing}


def attack(victim: Victim) -> None:
    victim.add("main", {"train.py": ("100755", victim.git("show", "main:train.py").encode())})
