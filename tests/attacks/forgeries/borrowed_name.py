"""A forger signs truly with their listed-looking name, but the key under that name is another."""

from gitresearch.repo.refs import OUTCOMES
from tests.attacks.victim import Victim

CLAIM = "the evaluator signed it"
WITHOUT = {"gitresearch.audit.notes._unsigned": lambda *_: ""}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    victim.say(oid, victim.outcome(oid), victim.thief, f"{OUTCOMES}{victim.repo.evaluator_id()}-2")
