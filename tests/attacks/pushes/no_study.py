"""A study is pinned to a commit that does not hold it."""

from gitresearch.repo.refs import STUDIES
from tests.attacks.pushes import nothing, weakened
from tests.attacks.victim import Victim

CLAIM = "something that can be read"
WITHOUT = weakened(STUDIES, content=nothing)


def attack(victim: Victim) -> None:
    victim.git("update-ref", f"{STUDIES}other", "main")
