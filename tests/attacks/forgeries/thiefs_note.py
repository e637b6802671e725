"""The same, signed by a key of the forger's own."""

from tests.attacks.victim import Victim

CLAIM = "the evaluator signed it"
WITHOUT = {"gitresearch.audit.notes._unsigned": lambda *_: ""}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    victim.say(oid, victim.outcome(oid).note() + b"# mine\n", victim.thief)
