"""A run that went badly is taken out of an outcome."""

from tests.attacks.forgeries import dropped_run
from tests.attacks.pushes import nothing
from tests.attacks.victim import Victim

CLAIM = "every run is kept"
WITHOUT = {"gitresearch.audit.notes._lost": lambda *_: False, "gitresearch.audit.outcomes._claim": nothing}


def attack(victim: Victim) -> None:
    dropped_run.attack(victim)
