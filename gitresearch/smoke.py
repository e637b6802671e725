"""The smoke run: before a trial's first run, a few steps and a few predictions find in seconds what can't work.

The trial's commands run as ever, in folders of their own, told by a variable and stopped after `smoke_seconds` each.
Here stands what follows from that. A program that knows the variable ends by itself and leaves an artefact of three
steps; one that doesn't is stopped, and that means nothing. No score is taken: the most that a lie does is end the
liar's trial, or lead it to the run that it would have had anyway.
"""

from dataclasses import replace

from gitresearch.outcome import Failure, Run
from gitresearch.study import Budget

VARIABLE = "GITRESEARCH_SMOKE"
BEFORE = ("baseline", "screen")  # the purposes of a trial's first run
LEARNT, SAME = 5, 0.0005


class Sizes:
    """Whether an artefact's bytes are a matter of its shapes alone. If so, three steps leave as many as training does.

    Known once LEARNT trials in a row left the same after both, but for SAME of it. Where weights are compressed it is
    never so, and then three steps bound nothing: decision 0029 has the measured ratios.
    """

    def __init__(self) -> None:
        self._same = 0

    def learn(self, run: Run) -> None:
        """Take a run; one that lacks either size tells nothing."""
        if run.smoke_bytes and run.artefact_bytes:
            same = abs(run.artefact_bytes - run.smoke_bytes) <= SAME * run.smoke_bytes
            self._same = self._same + 1 if same else 0

    def cap(self, cap: int) -> int:
        """The bytes that a smoke run may leave, for a cap on the artefact; 0 where there is none."""
        return int(cap * (1 + SAME)) if self._same >= LEARNT else 0


def limits(budget: Budget, sizes: Sizes) -> Budget:
    """The budget of a smoke run: `smoke_seconds` for warming up, for training and for predicting, each."""
    seconds = budget.smoke_seconds
    warmup, cap = min(budget.warmup_seconds, seconds), sizes.cap(budget.artefact_bytes)
    return replace(budget, train_seconds=seconds, eval_seconds=seconds, warmup_seconds=warmup, artefact_bytes=cap)


def meaning(status: str, failure: Failure) -> tuple[str, Failure] | None:
    """What a smoke run that ended so says of the trial, as its status and failure; None where it says nothing.

    What crashes here would crash in the run, which never began: `preflight_crash`. So is what the hook can't read: to
    accuse a trial takes a run that counts. A limit on bytes, memory or disk is as true here as there.
    """
    if status not in ("crash", "invalid", "size_blocked", "resource_limit", "harness_abort"):
        return None
    told = failure if failure.phase in ("harness", "hook") else replace(failure, phase=f"smoke {failure.phase}")
    return ("preflight_crash" if status in ("crash", "invalid") else status), told
