"""A trial says it stands on a commit that is no trial of the study."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "it stands on trials of the study"
WITHOUT = {"gitresearch.audit.trials._wrong": nothing}


def attack(victim: Victim) -> None:
    victim.git("commit", "--quiet", "--allow-empty", "-m", "not a trial")
    text = victim.git("show", "HEAD:train.py").replace("LR = 0.1", "LR = 0.2").encode()
    victim.add("HEAD", {"train.py": text})
