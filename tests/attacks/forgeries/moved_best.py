"""The best trial is moved by hand."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "it points at the best confirmed trial"
WITHOUT = {"gitresearch.audit.whole._best": nothing}


def attack(victim: Victim) -> None:
    victim.git("update-ref", "refs/heads/best/honest", victim.trial("discard"))
