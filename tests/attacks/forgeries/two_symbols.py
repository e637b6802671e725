"""A trial edits its symbol and another's."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "an edit within its surface"
WITHOUT = {"gitresearch.audit.trials._edits": nothing}


def attack(victim: Victim) -> None:
    text = victim.git("show", "main:train.py").replace("LR = 0.1", "LR = 0.2").replace("WIDTH = 8", "WIDTH = 9")
    victim.add("main", {"train.py": text.encode()})
