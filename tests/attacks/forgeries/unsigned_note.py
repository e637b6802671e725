"""Somebody with push rights adds a better outcome to the evaluator's notes, unsigned."""

from dataclasses import replace

from tests.attacks.victim import Victim

CLAIM = "the evaluator signed it"
WITHOUT = {"gitresearch.audit.notes._unsigned": lambda *_: ""}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    told = victim.outcome(oid)
    victim.say(oid, replace(told, summary=told.summary._replace(at="2020-01-01T00:00:00Z")))
