"""A screening run goes badly; its outcome is written without it, on another seed."""

from tests.attacks.forgeries import rerolled_seed
from tests.attacks.pushes import nothing
from tests.attacks.victim import Victim

CLAIM = "every run that was started is recorded"
WITHOUT = {"gitresearch.audit.notes._unrecorded": nothing}


def attack(victim: Victim) -> None:
    rerolled_seed.attack(victim)
