"""Two claims spend the same share of alpha."""

from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "each claim spends its own share of alpha"
ALSO = ("a claim on fresh seeds",)
WITHOUT = {"gitresearch.audit.outcomes._shares": nothing}


def attack(victim: Victim) -> None:
    kept, other = victim.trial("keep"), victim.trial("discard")
    told, claim = victim.outcome(other), victim.outcome(kept)
    facts = {name: value for name, value in claim.decision.items() if name.startswith("claim")}
    victim.lie(other, decision={**told.decision, **facts, "claim_verdict": "undecided"}, confirmed=False)
