"""A trial holds a file twice, of which readers take the one or the other."""

from tests.attacks.pushes import nothing, odd_tree
from tests.attacks.victim import Victim

CLAIM = "files that every checkout takes"
WITHOUT = {"gitresearch.audit.trials._paths": nothing}


def attack(victim: Victim) -> None:
    odd_tree(victim, "train.py", b"print('val_loss: 0')\n")
