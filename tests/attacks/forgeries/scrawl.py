"""A note is no outcome of ours."""

from tests.attacks.victim import Victim

CLAIM = "an outcome that can be read"
WITHOUT = {"gitresearch.audit.notes._version": lambda *_: iter(())}


def attack(victim: Victim) -> None:
    victim.say(victim.trial("crash"), b"looks good to me\n", victim.key)
