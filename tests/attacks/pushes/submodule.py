"""A trial carries a submodule."""

from tests.attacks.forgeries import submodule
from tests.attacks.pushes import nothing
from tests.attacks.victim import Victim

CLAIM = "ordinary files only"
WITHOUT = {"gitresearch.audit.trials._wrong": nothing}


def attack(victim: Victim) -> None:
    submodule.attack(victim)
