"""A fresh seed that went badly is outweighed by one more, which the study doesn't ask for."""

from dataclasses import replace

from gitresearch.outcome import mean, summarise
from tests.attacks.forgeries import nothing
from tests.attacks.victim import Victim

CLAIM = "as many runs as the study asks for"
WITHOUT = {"gitresearch.audit.outcomes._verdict": nothing}


def attack(victim: Victim) -> None:
    oid, told = victim.measured("LR = 0.3")
    screen, bad = told.runs
    reference = told.decision["reference"]
    runs = (screen, replace(bad, metrics={"val_loss": reference + 0.01}), replace(bad, seed=bad.seed + 1))
    victim.start(oid, runs[2].seed, "head")
    score = mean([run.metrics["val_loss"] for run in runs[1:]])
    facts = {**told.decision, "score": score, "score_n": 2, "gain": reference - score}
    facts |= victim.looked(facts, runs[1:])
    victim.say(
        oid,
        replace(told, summary=summarise("keep", "val_loss", runs, told.summary.at), runs=runs, decision=facts),
        victim.key,
    )
