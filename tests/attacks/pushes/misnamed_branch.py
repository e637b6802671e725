"""A trial is pushed under a name that another commit would have."""

from gitresearch.repo.refs import TRIALS
from tests.attacks.pushes import nothing, weakened
from tests.attacks.victim import Victim

CLAIM = "a branch named by its commit"
WITHOUT = weakened(TRIALS, moves=nothing)


def attack(victim: Victim) -> None:
    victim.git("update-ref", f"{TRIALS}honest/a-great-find-00000000", victim.trial("keep"))
