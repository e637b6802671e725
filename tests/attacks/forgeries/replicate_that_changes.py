"""A replicate changes the files that it repeats."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a replicate changes nothing"
WITHOUT = {"gitresearch.audit.trials._edits": nothing}


def attack(victim: Victim) -> None:
    text = victim.git("show", "main:train.py").replace("LR = 0.1", "LR = 0.3").encode()
    victim.add("main", {"train.py": text}, Operator="replicate")
