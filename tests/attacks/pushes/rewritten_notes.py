"""The last notes are taken back and others put in their place."""

from tests.attacks.victim import Victim

CLAIM = "notes are only added to"
WITHOUT = {"gitresearch.repo.Repo.stands_on": lambda *_: True, "gitresearch.audit.notes._lost": lambda *_: False}


def attack(victim: Victim) -> None:
    victim.git("update-ref", victim.ref, f"{victim.ref}~2")
    oid = victim.trial("crash")
    victim.say(oid, victim.outcome(oid).note() + b"# again\n", victim.key)
