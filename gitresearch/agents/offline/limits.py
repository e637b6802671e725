"""How far each trial stayed from each of the study's limits: its gates, the cap on bytes, the seconds of a run.

That a trial was blocked says little about its neighbours; by how much says a lot, and trials that were kept say it too.
So the steer learns each limit as it does the score, and asks of a move how likely it stays within them all (constrained
Bayesian optimisation: Gardner et al. 2014, ICML).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gitresearch.outcome import EARLY_STOP, TIMES, Outcome, Run, own
from gitresearch.study import Study

OVER = 0.1  # a run that is stopped at its limit would have needed more: so much at least, as a share of the limit
_OVERRUN = {"train_seconds": "train_budget_overrun", "eval_seconds": "eval_budget_overrun"}

Margins = Mapping[str, Sequence[float]]  # by limit: of each run, as a share of the limit; below 0 is over it


def margins(study: Study, outcome: Outcome) -> dict[str, list[float]]:
    """What the runs of an outcome left of each limit. Limits that nothing was measured of are left out."""
    runs, budget = own(outcome.runs), study.budget
    found = {
        "bytes": [1 - size / budget.artefact_bytes for run in runs if budget.artefact_bytes and (size := _size(run))],
        "train_seconds": _seconds(runs, "train_seconds", budget.train_seconds),
        "eval_seconds": _seconds(runs, "eval_seconds", budget.eval_seconds),
    }
    for gate in study.gates:
        values = [run.metrics[gate.metric] for run in runs if gate.metric in run.metrics]
        way = 1 if gate.at_least is not None else -1
        found[str(gate)] = [way * (value - gate.limit) / (abs(gate.limit) or 1.0) for value in values]
    return {name: each for name, each in found.items() if each}


def foretold(study: Study, outcome: Outcome) -> float | None:
    """The score of a run that was stopped for being too slow, where that is a matter of its seconds: those it took and
    those that stopping it spared. None of any other."""
    run = next((run for run in own(outcome.runs) if run.status == EARLY_STOP and run.saved_seconds), None)
    if run is None or study.objective.metric not in TIMES:
        return None
    whole = replace(run, train_seconds=run.train_seconds + run.saved_seconds)
    return getattr(whole, study.objective.metric) or None


def _size(run: Run) -> int:
    """What the artefact weighed, or was to weigh where it was not made."""
    return run.artefact_bytes or run.projected_bytes


def _seconds(runs: Sequence[Run], name: str, limit: float) -> list[float]:
    """Runs that ended for another reason say nothing of the time they needed."""
    found = []
    for run in runs:
        share = getattr(run, name) / limit
        if run.status == _OVERRUN[name]:
            found.append(min(-OVER, 1 - share))
        elif run.status == "ok" and share:
            found.append(1 - share)
    return found
