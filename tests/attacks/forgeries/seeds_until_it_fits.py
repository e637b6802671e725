"""A claim goes on beyond the seeds that the study asks for, until it is confirmed."""

from dataclasses import replace

from gitresearch import decision
from gitresearch.noise import Spread
from gitresearch.outcome import mean, summarise
from gitresearch.study import load
from tests.attacks.victim import STUDY, Victim

CLAIM = "a claim on fresh seeds"
WITHOUT = {"gitresearch.decision.claimable": lambda *_: True}


def attack(victim: Victim) -> None:
    oid = victim.trial("keep")
    told = victim.outcome(oid)
    more = replace(told.runs[-1], seed=told.runs[-1].seed + 1)
    victim.start(oid, more.seed, "confirm")
    runs, facts = (*told.runs, more), dict(told.decision)
    mine = [run.metrics["val_loss"] for run in runs if run.purpose == "confirm"]
    gain = facts["claim_rival"] - mean(mine)
    spread, sizes = Spread(facts["claim_sd"], facts["claim_df"]), (len(mine), facts["claim_rival_n"])
    p, _, _ = decision.tested(load(STUDY), facts["claim"], gain, spread, sizes)
    facts |= {"claim_gain": gain, "claim_n": len(mine), "claim_p": p} | victim.claimed_gates(facts, runs)
    head = summarise("keep", "val_loss", runs, told.summary.at, claimed=True)
    victim.lie(oid, runs=runs, decision=facts, score=head.score, sd=head.sd, n=head.n, seconds=head.seconds)
