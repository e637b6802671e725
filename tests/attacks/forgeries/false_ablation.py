"""An ablation puts something in instead of taking a step out."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a merge of its parents"
WITHOUT = {"gitresearch.audit.trials._edits": nothing}


def attack(victim: Victim) -> None:
    one = victim.trial("keep")
    text = victim.git("show", f"{one}:train.py").replace("LR = 0.2", "LR = 0.3").encode()
    victim.add(one, {"train.py": text}, Operator="ablate", subject=f"ablate {one[:8]}: a change")
