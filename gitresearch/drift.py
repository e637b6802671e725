"""Whether the baseline still measures what it did: a machine that slowed down, a library or data that changed. Pure.

Every `decision.drift_every` measured trials the unchanged recipe runs once more. Such a run stands in the baseline's
outcome and enters no score and no spread that anything is decided by. It is compared with the mean of the baseline's
seeds, by their spread pooled with that of the drift runs before it: all of it follows from the runs.
"""

import math
from collections.abc import Sequence
from typing import Any

from gitresearch.lineage import Lineage
from gitresearch.looks import measured
from gitresearch.noise import pooled, t_tail
from gitresearch.outcome import DRIFT, Outcome, Run, mean
from gitresearch.study import Study

MOST = 100  # drift runs of a study: its baseline's note holds them all, and has room for some 200 runs
RARE = 0.01  # two-sided p of a look that says it moved; 3 standard errors of 4 seeds come by chance once in 17 looks


def due(study: Study, lineage: Lineage, baseline: Outcome | None) -> bool:
    """Whether fewer drift runs were made than the measured trials ask for."""
    every = study.decision.drift_every
    if not every or baseline is None:
        return False
    trials = len(lineage) - lineage.statuses()["pending"] - 1
    return sum(run.purpose == DRIFT for run in baseline.runs) < min(MOST, trials // every)


def facts(study: Study, runs: Sequence[Run]) -> dict[str, Any]:
    """What the latest drift run says, as it stands in the note; nothing where there is none, or no spread."""
    metric = study.objective.metric
    seeds, again = measured(runs, metric, "baseline"), measured(runs, metric, DRIFT)
    if not again or not seeds:
        return {}
    spread = pooled([seeds, again[:-1]])
    change = again[-1] - mean(seeds)
    error = spread.sd * math.sqrt(1 + 1 / len(seeds))
    found = {"drift_score": again[-1], "drift_change": change, "drift_n": len(again)}
    if error:
        p = 2 * t_tail(abs(change) / error, spread.df)
        found |= {"drift_z": change / error, "drift_p": p}
        moved = p < RARE
    else:
        moved = not math.isclose(again[-1], seeds[0], rel_tol=1e-9)
    return found | {"drift_verdict": "moved" if moved else "steady"}


def told(outcome: Outcome) -> str:
    """The same for people; empty where nothing is known."""
    said = outcome.decision
    if "drift_verdict" not in said:
        return ""
    sure = f", z = {said['drift_z']:.2g}, p = {said['drift_p']:.2g}" if "drift_z" in said else ""
    begins = "the baseline has moved" if said["drift_verdict"] == "moved" else "the baseline is steady"
    return f"{begins}: run again it gives {said['drift_score']:.6g}, {said['drift_change']:+.3g}{sure}"
