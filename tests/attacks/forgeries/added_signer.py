"""A trial lists its own key among the signers."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "an edit within its surface"
WITHOUT = {"gitresearch.audit.trials._edits": nothing}


def attack(victim: Victim) -> None:
    victim.add("main", {"allowed_signers": b"*" + b" " + victim.thief.line.encode()})
