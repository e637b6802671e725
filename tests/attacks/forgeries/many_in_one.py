"""Outcomes are slipped in under another one's commit."""

from tests.attacks.victim import Victim

CLAIM = "one note a commit"
WITHOUT = {"gitresearch.audit.notes._crowded": lambda *_: False}


def attack(victim: Victim) -> None:
    one, two = victim.trial("crash"), victim.trial("discard")
    tip = victim.git("rev-parse", victim.ref).strip()
    for oid in (one, two):
        victim.say(oid, victim.outcome(oid).note() + b"# again\n", victim.key)
    tree = victim.git("rev-parse", f"{victim.ref}^{{tree}}").strip()
    victim.commit(victim.ref, tree, [tip], victim.key)
