"""A good outcome is said of another trial."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "measured for this commit"
ALSO = (
    "measured for this tree",
    "every run is kept",
    "every run that was started is recorded",
    "a run that was started",
    "each claim spends its own share of alpha",
    "it points at the best confirmed trial",
)
WITHOUT = {"gitresearch.audit.outcomes._binding": nothing}


def attack(victim: Victim) -> None:
    victim.say(victim.trial("discard"), victim.outcome(victim.trial("keep")), victim.key)
