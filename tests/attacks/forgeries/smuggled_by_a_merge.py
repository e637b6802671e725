"""A combination holds an edit that neither side made."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a merge of its parents"
ALSO = ("a commit that can be read",)
WITHOUT = {"gitresearch.audit.trials._edits": nothing}


def attack(victim: Victim) -> None:
    one, two = victim.trial("keep"), victim.trial("crash")
    text = victim.git("show", f"{one}:train.py").replace("val_loss: {", "val_loss: {-9 + ")
    victim.add(one, {"train.py": text.encode()}, Operator="combine", parents=f"{one} {two}")
