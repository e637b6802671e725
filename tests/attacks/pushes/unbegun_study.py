"""A trial is of a study that has no base commit."""

from gitresearch.repo.refs import TRIALS
from tests.attacks.pushes import nothing, weakened
from tests.attacks.victim import Victim

CLAIM = "a trial of a study that has begun"
WITHOUT = weakened(TRIALS, content=nothing)


def attack(victim: Victim) -> None:
    message = "a change\n\nStudy: other\nSpecialist: rate\nOperator: improve"
    oid = victim.git("commit-tree", "main^{tree}", "-p", "main", "-m", message).strip()
    victim.git("update-ref", f"{TRIALS}other/a-change-{oid[:8]}", oid)
