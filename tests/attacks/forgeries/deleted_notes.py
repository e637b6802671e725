"""The evaluator's notes are deleted."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "notes are only added to"
ALSO = ("it points at the best confirmed trial",)
WITHOUT = {"gitresearch.audit.whole._unseen": nothing}


def attack(victim: Victim) -> None:
    victim.git("update-ref", "-d", victim.ref)
