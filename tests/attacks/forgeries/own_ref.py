"""A forger measures under a name of their own, which the study does not list."""

from tests.attacks.victim import Victim

CLAIM = "the evaluator signed it"
WITHOUT = {"gitresearch.audit.notes._unsigned": lambda *_: ""}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    victim.say(oid, victim.outcome(oid), victim.thief, "refs/notes/gitresearch/outcomes/forger")
