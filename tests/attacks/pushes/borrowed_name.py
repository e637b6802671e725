"""An evaluator writes under another one's name."""

from gitresearch.repo.refs import OUTCOMES
from tests.attacks.victim import Victim

CLAIM = "the evaluator signed it"
WITHOUT = {"gitresearch.audit.notes._unsigned": lambda *_: ""}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    victim.say(oid, victim.outcome(oid), victim.key, f"{OUTCOMES}bob")
