"""A replacement shows everybody another recipe than was measured."""

from gitresearch.repo.chain import REPLACE
from tests.attacks.pushes import nothing, weakened
from tests.attacks.victim import Victim

CLAIM = "history as it was made"
WITHOUT = weakened(REPLACE, moves=nothing)


def attack(victim: Victim) -> None:
    victim.git("replace", victim.trial("discard"), victim.trial("keep"))
