"""The branch of a bad trial is deleted."""

from gitresearch.repo.refs import TRIALS
from tests.attacks.forgeries import deleted_branch
from tests.attacks.pushes import nothing, weakened
from tests.attacks.victim import Victim

CLAIM = "a trial's branch stays"
WITHOUT = weakened(TRIALS, moves=nothing)


def attack(victim: Victim) -> None:
    deleted_branch.attack(victim)
