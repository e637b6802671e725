"""The best is said to have been scored on a holdout, where its gain is as large; it never was."""

from tests.attacks.forgeries import holdout_made_up
from tests.attacks.pushes import nothing
from tests.attacks.victim import Victim

CLAIM = "a holdout that its runs give"
WITHOUT = {"gitresearch.audit.holdouts.check": nothing}


def attack(victim: Victim) -> None:
    holdout_made_up.attack(victim)
