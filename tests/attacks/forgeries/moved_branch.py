"""A trial's branch is moved to another commit."""

from tests.attacks.victim import Victim

CLAIM = "a trial's branch"
ALSO = ("a trial with a branch",)
WITHOUT = {"gitresearch.audit.whole._odd": lambda *_: iter(())}


def attack(victim: Victim) -> None:
    oid = victim.trial("crash")
    victim.git("update-ref", f"refs/heads/{victim.repo.trial(oid).branch}", victim.trial("keep"))
