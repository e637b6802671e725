"""A claim says that its rival, run beside it, was worse than those runs were."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a claim against runs that were made"
ALSO = ("a claim by its own arithmetic",)
WITHOUT = {"gitresearch.audit.outcomes._beside": nothing}


def attack(victim: Victim) -> None:
    oid, baseline = victim.trial("keep"), victim.trial("baseline")
    facts = {**victim.outcome(oid).decision, "claim_beside": baseline, "claim_rival": 9.0, "claim_rival_n": 1}
    victim.lie(oid, runs=victim.further(oid, "rival", of=baseline), decision=facts)
