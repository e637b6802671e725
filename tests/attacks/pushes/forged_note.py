"""Somebody else signs a further note in the evaluator's name."""

from tests.attacks.pushes import nothing
from tests.attacks.victim import Victim

CLAIM = "the evaluator signed it"
WITHOUT = {"gitresearch.audit.notes._unsigned": lambda *_: "", "gitresearch.guard._one_key": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    victim.say(oid, victim.outcome(oid).note() + b"# mine\n", victim.thief)
