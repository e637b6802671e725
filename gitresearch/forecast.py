"""What follows from what a run says of its own progress: how far it is, and whether going on is certain to be waste.

A line is `STEP TOTAL` or `STEP TOTAL METRIC`. All of it is advice by a program that may lie: it enters no score, and
the most it can do is end its own run sooner. A run that says nothing is left alone. Seconds are by the study's clock.

An overrun is certain where the steps that are left would not fit at 1 / LEAST times the fastest rate of any stretch so
far, a stretch being STRETCH of the budget. It is asked from EARLIEST of the budget on, after some ADVANCES, and with
one more report taken as made: a program whose steps become faster than that later on is stopped wrongly, and one that
watches the clock itself must say the total that it will reach. Where a run has a bar to reach (`curves`), it ends as
soon as that is out of reach.
"""

import math
import re
from collections.abc import Sequence

from gitresearch.curves import MARKS, TAUGHT, Bar, Curve
from gitresearch.outcome import EARLY_STOP, Failure

EARLIEST, STRETCH, LEAST, ADVANCES = 0.2, 0.05, 0.8, 3
FIRST_STEP = 0.5  # of the budget, in which a run that said "0 TOTAL" must have made one of its steps
NOT_FINITE = 2  # reports in a row; one may be a step that the program itself skips
FORESEEN = ("not_finite", "projected", "no_first_step", EARLY_STOP)  # why a run is stopped
_LINE = re.compile(rb"(\d{1,15}) (\d{1,15})(?: ([+-]?(?:[0-9][0-9.eE+-]{0,30}|nan|inf)))?\r?", re.IGNORECASE)
Said = tuple[int, int, float | None]  # step, total, metric


def read_line(line: bytes) -> Said | None:
    """A line as numbers; None where it is none of ours."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    step, total = int(match[1]), int(match[2])
    try:
        metric = None if match[3] is None else float(match[3])
    except ValueError:
        return None
    return (step, total, metric) if step <= total else None


class Forecast:
    """One run's training. `share` is how much of it is done, `metric` what it said last; None where it never did."""

    def __init__(self, budget: float, bar: Bar | None = None) -> None:
        self.budget, self.bar = budget, bar
        self.curve = Curve()
        self.foretold = 0.0  # the share of the training at which the bar was found out of reach
        self.share: float | None = None
        self.metric: float | None = None
        self._step = self._total = self._gap = self._advances = self._broken = 0
        self._used = 0.0  # at the last look
        self._first = self._mark = (0.0, 0)  # seconds and step, at the first report and where the stretch began
        self._fastest = 0.0  # steps a second

    def hear(self, used: float, lines: Sequence[bytes]) -> str:
        """Take the lines of a look; why the run is to be stopped, one of FORESEEN, or nothing."""
        self._used = used
        if self.bar is not None and used > self.bar.seconds:
            return EARLY_STOP
        for said in filter(None, map(read_line, lines)):
            marked = self._take(used, said)
            if self._broken >= NOT_FINITE:
                return "not_finite"
            if marked and self._lost():
                return EARLY_STOP
        if self.share is None:
            return ""
        if used - self._mark[0] >= STRETCH * self._limit:
            self._fastest = max(self._fastest, (self._step - self._mark[1]) / (used - self._mark[0]))
            self._mark = (used, self._step)
        return self._late(used)

    @property
    def _limit(self) -> float:
        """The seconds within which training has to end to be of any use."""
        return min(self.budget, self.bar.seconds) if self.bar else self.budget

    def told(self, purpose: str) -> tuple[float, ...]:
        """The curve as it stands in the note: of runs that others are judged by. A note has room for so many runs."""
        return tuple(self.curve.values) if purpose in TAUGHT else ()

    def _lost(self) -> bool:
        """Whether the run ends here because of its curve. Only the first look that says so is kept."""
        if self.bar is None or self.foretold or not self.bar.hopeless(self.curve.values):
            return False
        self.foretold = MARKS[len(self.curve.values) - 1]
        return not self.bar.let_on

    def _take(self, used: float, said: Said) -> bool:
        """Whether a mark of the curve was passed."""
        step, total, metric = said
        if self.share is None or step < self._step:  # the first, or another round of steps
            self._first = self._mark = (used, step)
            self._fastest, self._gap, self._advances, self.curve = 0.0, 0, 0, Curve()
        elif step > self._step:
            self._advances += 1
            self._gap = max(self._gap, step - self._step)
        self._step, self._total = step, total
        self.share = step / total if total else 0.0
        if metric is None:
            return False
        self._broken = 0 if math.isfinite(metric) else self._broken + 1
        self.metric = metric
        return self.curve.add(self.share, metric)

    def _late(self, used: float) -> str:
        if self._step == 0 and self._total > 1 and used >= FIRST_STEP * self.budget:
            return "no_first_step"
        if used < EARLIEST * self._limit or self._advances < ADVANCES or not self._fastest:
            return ""
        left = max(0, self._total - self._step - self._gap)
        least = used + LEAST * left / self._fastest
        return "projected" if least > self.budget else EARLY_STOP if least > self._limit else ""

    def saved(self, why: str) -> float:
        """The seconds that stopping now spares: what is left of the budget, or of the run where that ends before."""
        left = self.budget - self._used
        if why in ("not_finite", EARLY_STOP):
            took, made = self._used - self._first[0], self._step - self._first[1]
            left = min(left, (self._total - self._step) * took / made if made else 0.0)
        return round(max(0.0, left), 3)

    def failure(self, why: str) -> tuple[str, Failure]:
        """The status of a run that was stopped so, and why."""
        at = f"step {self._step} of {self._total} after {self._used:.1f} of {self.budget:g} s"
        if why == "not_finite":
            return "crash", Failure("train", why, (f"the loss is {self.metric} at {at}",))
        if why == "no_first_step":
            return "train_budget_overrun", Failure("train", why, (at,))
        if why == EARLY_STOP and self.bar is not None:
            if self.foretold:
                return EARLY_STOP, Failure("train", "curve", (at, self.bar.told(self.curve.values)))
            told = f"training alone would pass the {self.bar.seconds:.4g} s in which it could still win"
            return EARLY_STOP, Failure("train", "too_slow", (at, told))
        needs = (self._total - self._step) / self._fastest
        told = f"the steps left would take {needs:.0f} s at the fastest rate so far"
        return "train_budget_overrun", Failure("train", why, (at, told))
