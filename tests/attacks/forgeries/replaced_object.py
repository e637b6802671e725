"""A replacement shows everybody another recipe than was measured."""

from tests.attacks.victim import Victim

CLAIM = "history as it was made"
WITHOUT = {"gitresearch.repo.Repo.rewritings": lambda _self: []}


def attack(victim: Victim) -> None:
    victim.git("replace", victim.trial("discard"), victim.trial("keep"))
