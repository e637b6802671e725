"""The best trial is forgotten."""

from gitresearch.repo.refs import BEST
from tests.attacks.pushes import nothing, weakened
from tests.attacks.victim import Victim

CLAIM = "a best trial stays"
WITHOUT = weakened(BEST, moves=nothing)


def attack(victim: Victim) -> None:
    victim.git("update-ref", "-d", f"{BEST}honest")
