"""A trial's branch is moved to another trial."""

from gitresearch.repo.refs import TRIALS
from tests.attacks.forgeries import moved_branch
from tests.attacks.pushes import nothing, weakened
from tests.attacks.victim import Victim

CLAIM = "a trial's branch stays"
WITHOUT = weakened(TRIALS, moves=nothing)


def attack(victim: Victim) -> None:
    moved_branch.attack(victim)
