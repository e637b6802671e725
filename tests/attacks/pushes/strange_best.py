"""The best trial is said to be a commit that is no trial."""

from gitresearch.repo.refs import BEST
from tests.attacks.pushes import nothing, weakened
from tests.attacks.victim import Victim

CLAIM = "the best trial of a study"
WITHOUT = weakened(BEST, content=nothing)


def attack(victim: Victim) -> None:
    victim.git("update-ref", f"{BEST}honest", "main")
