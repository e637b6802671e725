"""The branch of a bad trial is deleted."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a trial with a branch"
WITHOUT = {"gitresearch.audit.whole._branchless": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("crash")
    victim.git("update-ref", "-d", f"refs/heads/{victim.repo.trial(oid).branch}")
