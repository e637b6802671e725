"""A note is no outcome at all."""

from tests.attacks.pushes import nothing
from tests.attacks.victim import Victim

CLAIM = "an outcome that can be read"
WITHOUT = {"gitresearch.audit.notes._version": nothing}


def attack(victim: Victim) -> None:
    victim.say(victim.trial("crash"), b"looks good to me\n", victim.key)
