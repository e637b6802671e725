"""A claim says that its rival, run beside it, was worse than those runs were."""

from dataclasses import replace

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a claim against runs that were made"
ALSO = ("a claim by its own arithmetic",)
WITHOUT = {"gitresearch.audit.outcomes._beside": nothing}


def attack(victim: Victim) -> None:
    oid, baseline = victim.trial("keep"), victim.trial("baseline")
    told = victim.outcome(oid)
    last = told.runs[-1]
    run = replace(last, seed=last.seed + 1, purpose="rival", of=baseline, wall_seconds=0.0)
    victim.start(oid, run.seed, "rival")
    facts = {**told.decision, "claim_beside": baseline, "claim_rival": 9.0, "claim_rival_n": 1}
    victim.lie(oid, runs=(*told.runs, run), decision=facts)
