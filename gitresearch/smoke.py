"""The smoke run: before a trial's first run, a few steps and a few predictions find in seconds what can't work.

The trial's commands run as ever, in folders of their own, told by a variable and stopped after `smoke_seconds` each.
Here stands what follows from that. A program that knows the variable ends by itself and leaves an artefact of three
steps; one that doesn't is stopped, and that means nothing. No score is taken: the most that a lie does is end the
liar's trial, or lead it to the run that it would have had anyway.
"""

from dataclasses import replace

from gitresearch.outcome import Failure
from gitresearch.study import Budget

VARIABLE = "GITRESEARCH_SMOKE"
BEFORE = ("baseline", "screen")  # the purposes of a trial's first run


def limits(budget: Budget) -> Budget:
    """The budget of a smoke run: `smoke_seconds` for warming up, for training and for predicting, each. No cap on the
    artefact: what three steps leave bounds nothing by itself (decision 0029)."""
    seconds = budget.smoke_seconds
    warmup = min(budget.warmup_seconds, seconds)
    return replace(budget, train_seconds=seconds, eval_seconds=seconds, warmup_seconds=warmup, artefact_bytes=0)


def meaning(status: str, failure: Failure) -> tuple[str, Failure] | None:
    """What a smoke run that ended so says of the trial, as its status and failure; None where it says nothing.

    What crashes here would crash in the run, which never began: `preflight_crash`. So is what the hook can't read: to
    accuse a trial takes a run that counts. A limit on memory or disk is as true here as there.
    """
    if status not in ("crash", "invalid", "resource_limit", "harness_abort"):
        return None
    told = failure if failure.phase in ("harness", "hook") else replace(failure, phase=f"smoke {failure.phase}")
    return ("preflight_crash" if status in ("crash", "invalid") else status), told


def spares(status: str, phase: str) -> str:
    """What spared a trial that ended so the run that it would have had, `preflight` or `smoke`; nothing where it would
    have ended in training anyway, as early for all that is known."""
    if status == "size_blocked" and phase == "preflight":
        return "preflight"
    late = phase in ("smoke measure", "smoke score") and status != "harness_abort"
    return "smoke" if late else ""
