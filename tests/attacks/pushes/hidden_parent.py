"""A trial stands on one whose branch is not pushed."""

from gitresearch.repo.refs import TRIALS
from tests.attacks.pushes import nothing
from tests.attacks.victim import Victim

CLAIM = "it stands on trials of the study"
WITHOUT = {"gitresearch.audit.trials._wrong": nothing}


def attack(victim: Victim) -> None:
    text = victim.git("show", "main:train.py")
    parent = victim.add("main", {"train.py": text.replace("LR = 0.1", "LR = 0.2").encode()})
    victim.add(parent, {"train.py": text.replace("LR = 0.1", "LR = 0.3").encode()})
    victim.git("update-ref", "-d", f"{TRIALS}honest/a-change-{parent[:8]}")
