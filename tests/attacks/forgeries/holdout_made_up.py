"""The best is said to have been scored on a holdout, where its gain is as large; it never was."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "a holdout that its runs give"
WITHOUT = {"gitresearch.audit.holdouts.check": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    told = victim.outcome(oid)
    facts = {"holdout_score": told.summary.score, "holdout_n": 2, "holdout_gap": 0.0, "holdout_seeds": 3}
    victim.lie(oid, decision={**told.decision, **facts, "holdout_query": 1, "holdout_verdict": "steady"})
