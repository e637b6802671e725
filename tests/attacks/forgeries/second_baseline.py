"""A trial poses as the baseline."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "the baseline is the unchanged recipe"
WITHOUT = {"gitresearch.audit.trials._wrong": nothing}


def attack(victim: Victim) -> None:
    text = victim.git("show", "main:train.py").replace("LR = 0.1", "LR = 0.9").encode()
    victim.add("main", {"train.py": text}, Operator="baseline", Specialist="baseline")
