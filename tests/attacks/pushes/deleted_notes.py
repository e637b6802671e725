"""The evaluator's notes are deleted."""

from gitresearch.guard import NOTES
from tests.attacks.pushes import nothing, weakened
from tests.attacks.victim import Victim

CLAIM = "notes are only added to"
WITHOUT = weakened(NOTES, moves=nothing)


def attack(victim: Victim) -> None:
    victim.git("update-ref", "-d", victim.ref)
