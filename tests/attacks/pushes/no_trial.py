"""A commit without a hypothesis lies on a trial's branch."""

from gitresearch.repo.refs import TRIALS
from tests.attacks.pushes import nothing, plain, weakened
from tests.attacks.victim import Victim

CLAIM = "something that can be read"
WITHOUT = weakened(TRIALS, nothing, nothing)


def attack(victim: Victim) -> None:
    oid = plain(victim, {"train.py": "LR = 0.3\n"})
    victim.git("update-ref", f"{TRIALS}honest/a-change-{oid[:8]}", oid)
