"""The evaluator writes an outcome of a commit that is no trial here."""

from tests.attacks.pushes import nothing
from tests.attacks.victim import Victim

CLAIM = "a trial with a branch"
WITHOUT = {"gitresearch.guard._outcome": nothing}


def attack(victim: Victim) -> None:
    victim.say(victim.git("rev-parse", "main").strip(), victim.outcome(victim.trial("keep")), victim.key)
