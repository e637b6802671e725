"""A claim is tested with a spread that is smaller than that of its own seeds, and all its arithmetic fits."""

from gitresearch import decision
from gitresearch.noise import Spread
from gitresearch.study import load
from tests.attacks.forgeries import nothing
from tests.attacks.victim import STUDY, Victim

CLAIM = "a spread that was measured"
WITHOUT = {"gitresearch.audit.outcomes._claim": nothing}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    facts = dict(victim.outcome(oid).decision)
    sizes = (int(facts["claim_n"]), int(facts["claim_rival_n"]))
    p, _, _ = decision.tested(load(STUDY), facts["claim"], facts["claim_gain"], Spread(1e-9, facts["claim_df"]), sizes)
    victim.lie(oid, decision={**facts, "claim_sd": 1e-9, "claim_p": p})
