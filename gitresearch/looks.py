"""Whether another seed is needed: where a metric stands at its gate, and what can no longer win. Pure.

Seeds are run one after another, and after each there is a look. A look may only end what is going badly, or pass a gate
that is surely met; each such test spends its part of a level that is split evenly over all looks there can be, so that
by the union bound it errs at most that often, however the looks depend on each other. (The constants of Pocock 1977,
which need their joint distribution, are 0.08 to 0.2 standard errors sharper at two to five looks.) The spread is that
of the baseline's seeds pooled with the runs that are looked at: both stand in notes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gitresearch.noise import Spread, pooled, t_above, t_tail
from gitresearch.outcome import Outcome, Run, mean
from gitresearch.study import Gate, Study

UNKNOWN = Spread(0.0, 0)
MEAN = 0.5  # the level at which a bound is the mean itself
Noise = Mapping[str, Spread]  # of each metric that is decided by, over the baseline's seeds


@dataclass(frozen=True)
class AtGate:
    """A gate with the mean over n runs, and the one-sided bound of the true mean on the gate's bad side; of a gate that
    each run must meet, the worst run, and the bound of the next one. None where the metric was not measured; the bound
    is infinite where no spread is known."""

    gate: Gate
    value: float | None
    bound: float
    known: Spread
    spread: Spread
    n: int

    @property
    def missed(self) -> bool:
        """Whether the mean itself misses, or was not measured."""
        return self.value is None or not self.gate.passes(self.value)

    @property
    def sure(self) -> bool:
        return not self.missed and self.gate.passes(self.bound)

    def hopeless(self, level: float) -> bool:
        """Whether the true mean misses, but for a chance of `level`."""
        if self.value is None:
            return True
        if self.gate.each:
            return self.missed
        side = 1.0 if self.gate.at_least is not None else -1.0
        return below(side * (self.value - self.gate.limit), self.n, self.spread, level)

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.gate.metric} was not measured, and the study asks for {self.gate}"
        sure = "" if self.missed else f", for sure only {self.bound:.5g} (n={self.n})"
        return f"{self.gate.metric} is {self.value:.5g}{sure}, and the study asks for {self.gate}"

    def facts(self, name: str) -> dict[str, Any]:
        """The arithmetic, as it stands in the note under names that begin so."""
        if self.value is None:
            return {name: str(self.gate)}
        told = {"value": self.value, "n": self.n, "sd": self.spread.sd, "df": self.spread.df}
        told |= {"known_sd": self.known.sd, "known_df": self.known.df}
        told |= {"bound": self.bound} if math.isfinite(self.bound) else {}
        return {name: str(self.gate)} | {f"{name}_{key}": value for key, value in told.items()}


def known_noise(study: Study, baseline: Outcome) -> dict[str, Spread]:
    """The spread over the baseline's seeds of the metric and of each gate's. Nothing else enters: an audit must be able
    to find it in an outcome."""
    names = sorted({study.objective.metric, *(gate.metric for gate in study.gates)})
    return {name: pooled([measured(baseline.runs, name, "baseline")]) for name in names}


def measured(runs: Iterable[Run], metric: str, *purposes: str) -> list[float]:
    """A metric's values over the runs with these purposes."""
    return [run.metrics[metric] for run in runs if run.purpose in purposes and metric in run.metrics]


def at_gates(gates: Iterable[Gate], runs: Sequence[Run], noise: Noise, level: float) -> list[AtGate]:
    """Each gate as the runs stand at it, with bounds at this level."""
    return [_at(gate, runs, noise.get(gate.metric, UNKNOWN), level) for gate in gates]


def _at(gate: Gate, runs: Sequence[Run], known: Spread, level: float) -> AtGate:
    found = [run.metrics[gate.metric] for run in runs if gate.metric in run.metrics]
    spread = known.joined(found)
    if not found:
        return AtGate(gate, None, math.inf, known, spread, 0)
    upwards, middle, n = gate.at_least is None, mean(found), len(found)
    error = math.sqrt(1 / n + (1 if gate.each else 0)) * (spread.sd if spread.df else 1.0)
    away = t_above(level, spread.df) * error if level < MEAN else 0.0
    value = middle if not gate.each else max(found) if upwards else min(found)
    return AtGate(gate, value, middle + away if upwards else middle - away, known, spread, n)


def gate_level(study: Study) -> float:
    """The level of one look at a gate: it is asked from `seeds.head` fresh runs on, up to `seeds.gate`. At 0.5 the mean
    decides, as many published rules have it, and no look is needed."""
    if study.decision.gate_alpha >= MEAN:
        return MEAN
    return study.decision.gate_alpha / (max(study.seeds.gate - study.seeds.head, 0) + 1)


def stop_level(study: Study, most: int) -> float:
    """The level of one look that may end seeds early, of those before the last of `most` runs."""
    return study.decision.stop_alpha / max(1, most - 1)


def below(gain: float, n: float, spread: Spread, level: float) -> bool:
    """Whether a mean of n runs that is `gain` above a limit truly lies below it, but for a chance of `level`."""
    return gain < 0 and _p(gain, n, spread) < level


def _p(gain: float, n: float, spread: Spread) -> float:
    """How often a mean lies as far below a limit as this, or further, where the truth lies on it; 1 where no spread is
    known."""
    error = spread.sd / math.sqrt(n)
    if error == 0 and spread.df:
        return 0.0 if gain < 0 else 1.0
    return t_tail(-gain / error, spread.df) if spread.df else 1.0


def look_facts(study: Study, gain: float, spread: Spread, n: int, most: int) -> dict[str, Any]:
    """The last look's arithmetic; those before it follow from the runs in their order."""
    level = stop_level(study, most)
    return {"look_n": n, "look_most": most, "look_p": _p(gain, n, spread), "look_level": level}


def gate_facts(name: str, gates: Iterable[AtGate]) -> dict[str, Any]:
    return {key: value for place, at in enumerate(gates, 1) for key, value in at.facts(f"{name}_{place}").items()}


def claimed_gates(study: Study, runs: Iterable[Run], noise: Noise) -> list[AtGate]:
    """The gates as a claim stands at them: one look, on its own seeds alone, which got nothing chosen."""
    return at_gates(study.gates, [run for run in runs if run.purpose == "confirm"], noise, study.decision.gate_alpha)


def gated(found: str, gates: Iterable[AtGate]) -> str:
    """What a claim's test says, unless a gate speaks against it: then nothing is claimed, and what misses one is
    demoted."""
    if any(at.missed for at in gates):
        return "rolled back"
    return "undecided" if found == "confirmed" and not all(at.sure for at in gates) else found
