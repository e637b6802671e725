"""A trial that nobody measured is struck out as if its outcome had been taken back."""

from gitresearch.witness import revoked
from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "taken back as it was"
WITHOUT = {"gitresearch.audit.witnesses._first": nothing}


def attack(victim: Victim) -> None:
    oid, told = victim.measured("LR = 0.3")
    victim.say(oid, revoked(told, "we did not like it"), victim.key)
