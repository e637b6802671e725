"""What a trial's first run can still come to, foretold from the trials before it: by its curve, by its bytes. Pure.

A run reports a metric in the score's units while it trains (advice by a program that may lie: it enters no score). Its
curve is the mean of the reports in each tenth of its training. A trial's end is foretold from its parent: the parent's
curve lay so far from the parent's score at this mark, and the trial is taken to close the same distance. How wrong that
goes is learnt from the trials before it: each that ran to its end has a `surprise`, the most by which it ended better
than foretold at any mark, as a multiple of what was still to come (`scale`). By split conformal prediction (Vovk,
Gammerman, Shafer 2005, section 2.2; Lei et al. 2018, arXiv 1604.04173), of n such trials and the next, exchangeable
with them, the next one's surprise is above the k-th largest with probability at most k / (n + 1), for all marks at
once. A run whose best plausible end does not beat the reference is stopped: so at most `curve_alpha` of all first runs
are stopped that would have won. Trials are not quite exchangeable (agents learn, and stopped ones leave no surprise),
which is why one in CHECKED goes on to its end although it was foretold to lose: what came of those is on record.

Bytes go the same way, before training: a hook may reckon what an artefact will weigh (`projected_bytes`), its parent's
weighed so many times what was reckoned, and past trials tell how much less than that there may still be. And so does
memory, from what the smoke run took.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from gitresearch.errors import FormatError
from gitresearch.looks import stop_level
from gitresearch.noise import Spread, t_above
from gitresearch.outcome import OWN_METRICS, TIMES, Outcome, Run, mean
from gitresearch.study import Objective, Study

MARKS = tuple(tenth / 10 for tenth in range(1, 10))  # shares of the training
FIRST_LOOK = 2  # the place of the first mark that a run is judged at: before it learning rates still rise
RECENT = 100  # trials that surprises are learnt from
TAUGHT = ("baseline", "screen", "head")  # the purposes of runs that others are judged by
CHECKED = 10  # one run in so many that would be stopped goes on
HUGE = 1e12  # no metric; what a program says may be any number, and a note holds finite ones


def scale(place: int) -> float:
    """What is still to come at a mark: surprises shrink as a run nears its end, and quantising still follows it."""
    return 1.1 - MARKS[place]


@dataclass(frozen=True)
class Bar:
    """What a run has to be able to reach. `offsets` is the parent's score less its curve at each mark; `slack` the
    surprise that is granted. A run of a study that is scored by its time has `seconds` instead: to train longer is to
    lose. Where that is relative they are too, until it is known to what (`over`)."""

    objective: Objective
    reference: float
    offsets: tuple[float, ...] = ()
    slack: float = 0.0
    known: int = 0  # trials that the slack was learnt from
    level: float = 0.0
    seconds: float = math.inf
    lightest: float = 0.0  # of the bytes that are projected, the share that an artefact may come down to; 0: unknown
    leanest: float = 0.0  # of the memory that its smoke run took, the share that a run may come down to; 0: unknown
    let_on: bool = False  # only look: this run goes on to its end, unless that is a matter of seconds alone

    def over(self, seconds: float) -> "Bar":
        """The bar of a run whose score is its seconds over these."""
        return replace(self, reference=self.reference * seconds, seconds=self.seconds * seconds)

    FROM_THE_START: ClassVar = 1e-9  # the share of training at which bytes are foretold; not 0, which is never

    def plausible(self, place: int, value: float) -> float:
        """The best end that a run with this curve at a mark may come to, in the score's units."""
        sign = -1 if self.objective.direction == "min" else 1
        return value + self.offsets[place] + sign * self.slack * scale(place)

    def hopeless(self, curve: Sequence[float]) -> bool:
        """Whether the curve's last mark foretells that the run can't beat the reference."""
        place = len(curve) - 1
        if not self.offsets or place < FIRST_LOOK:
            return False
        return not self.objective.better(self.plausible(place, curve[-1]), self.reference)

    def too_large(self, projected: int, cap: int) -> str:
        """Why an artefact that is projected to have so many bytes won't fit; empty where it may."""
        return self._over(f"{projected} bytes are projected", int(projected * self.lightest), cap)

    def too_hungry(self, taken: int, cap: int) -> str:
        """Why a run won't fit whose smoke run took so many bytes of memory; empty where it may."""
        return self._over(f"the smoke run took {taken} bytes of memory", int(taken * self.leanest), cap)

    def _over(self, known: str, least: int, cap: int) -> str:
        if not cap or least <= cap:
            return ""
        return f"{known}, at least {least} by past trials (level {self.level:g}); the cap is {cap}"

    def told(self, curve: Sequence[float]) -> str:
        place = len(curve) - 1
        end, foretold = self.plausible(place, curve[-1]), curve[-1] + self.offsets[place]
        return (
            f"at {MARKS[place]:.0%} of its training {curve[-1]:.5g}: foretold {foretold:.5g}, at best {end:.5g} by "
            f"{self.known} trials (level {self.level:g}), against {self.reference:.5g}"
        )


@dataclass
class Curve:
    """A run's curve, as its reports come in."""

    values: list[float] = field(default_factory=list)
    _sum: float = 0.0
    _count: int = 0

    def add(self, share: float, value: float) -> bool:
        """Take a report; whether a mark was passed. A mark that no report fell before has the value of this one."""
        if not abs(value) < HUGE:
            return False
        passed = False
        while len(self.values) < len(MARKS) and share > MARKS[len(self.values)] + 1e-9:
            found = self._sum / self._count if self._count else value
            self.values.append(float(f"{found:.5g}"))
            self._sum, self._count, passed = 0.0, 0, True
        self._sum, self._count = self._sum + value, self._count + 1
        return passed


def offsets(runs: Iterable[Run], metric: str) -> tuple[float, ...]:
    """The mean of score less curve at each mark, over the runs that have a whole curve; none where no run has."""
    found = [run for run in runs if run.purpose in TAUGHT and run.status == "ok" and len(run.curve) == len(MARKS)]
    found = [run for run in found if all(abs(value) < HUGE for value in (*run.curve, run.metrics.get(metric, HUGE)))]
    if not found:
        return ()
    return tuple(mean([run.metrics[metric] - run.curve[place] for run in found]) for place in range(len(MARKS)))


def surprise(objective: Objective, mine: Sequence[float], parents: Sequence[float]) -> float:
    """By how much more than foretold a run gained, at the mark where that was most, in multiples of `scale`. Both are
    offsets: of the run itself, and of its parent."""
    sign = -1 if objective.direction == "min" else 1
    places = range(FIRST_LOOK, len(MARKS))
    return max(sign * (mine[place] - parents[place]) / scale(place) for place in places)


def slack(surprises: Sequence[float], level: float) -> float:
    """The surprise that the next trial exceeds with probability `level` at most; infinite where too few are known."""
    k = math.floor(level * (len(surprises) + 1))
    return sorted(surprises, reverse=True)[k - 1] if 1 <= k <= len(surprises) else math.inf


def time_bar(study: Study, reference: float, known: Spread) -> Bar | None:
    """The bar of a study that is scored by time, the less the better: how long a first run may train and not be lost.
    With one screening run that is the reference; with more, what the look after the first would end anyway."""
    objective = study.objective
    if objective.metric not in TIMES or objective.direction != "min":
        return None
    if study.seeds.screen == 1:
        return Bar(objective, reference, seconds=reference)
    level = stop_level(study, study.seeds.screen)
    if not level or not known.df:
        return None
    return Bar(objective, reference, seconds=reference + t_above(level, known.df) * known.sd)


Sizes = Callable[[Run], tuple[int, int]]  # what a run was reckoned to take, and what it took


def weighed(run: Run) -> tuple[int, int]:
    return run.projected_bytes, run.artefact_bytes


def held(run: Run) -> tuple[int, int]:
    """Of memory; what a run took that did not end is no measure."""
    return run.smoke_memory_bytes, run.peak_memory_bytes if run.status == "ok" else 0


def times(runs: Iterable[Run], sizes: Sizes) -> float:
    """How many times what was reckoned the runs took, on the geometric mean; 0 where none tells both."""
    found = [took / reckoned for reckoned, took in map(sizes, runs) if min(reckoned, took) > 0]
    return math.exp(mean([math.log(share) for share in found])) if found else 0.0


def lighter(mine: Sequence[Run], parents: Sequence[Run], sizes: Sizes) -> float | None:
    """The log of how many times lighter runs came out than their parent's foretold; None where that isn't known."""
    found, foretold = times(mine, sizes), times(parents, sizes)
    return math.log(foretold / found) if found and foretold else None


Surprises = tuple[float | None, float | None, float | None]  # of curve, bytes and memory; None: not known


class Experience:
    """What past trials teach of curves and bytes, each read once. `outcome_of` gives a trial's outcome by its oid."""

    def __init__(self, study: Study, outcome_of: Callable[[str], Outcome | None]) -> None:
        self.study, self._outcome_of = study, outcome_of
        self._surprises: dict[str, Surprises] = {}

    def bar(self, parent: str, past: Iterable[tuple[str, str]], reference: float) -> Bar | None:
        """The bar for a child of `parent`, from past trials as (oid, parent's oid); None where it stops nothing."""
        level, objective = self.study.decision.curve_alpha, self.study.objective
        if not level:
            return None
        ends, light, lean = self._known(past)
        granted, theirs = slack(ends, level), self._runs(parent)
        # Of several first looks the mean decides, and the first of them may be lost with the trial still winning.
        curved = self.study.seeds.screen == 1 and objective.metric not in OWN_METRICS
        mine = offsets(theirs, objective.metric) if curved and math.isfinite(granted) else ()
        lightest, leanest = (
            times(theirs, sizes) / math.exp(slack(one, level)) for sizes, one in ((weighed, light), (held, lean))
        )
        if not mine and not lightest and not leanest:
            return None
        return Bar(objective, reference, mine, granted, len(ends), level, lightest=lightest, leanest=leanest)

    def _known(self, past: Iterable[tuple[str, str]]) -> tuple[list[float], ...]:
        """The surprises of past trials: in their curves, in their bytes and in their memory."""
        found = [self._surprise(oid, of) for oid, of in past]
        return tuple([one for one in each if one is not None] for each in zip(*found, strict=True)) or ([], [], [])

    def _surprise(self, oid: str, parent: str) -> Surprises:
        """How much better a trial's first run ended than foretold, and how many times lighter it came out, as a log.
        It is kept: what has a first run doesn't change."""
        runs = self._runs(oid) if oid not in self._surprises else ()
        first = [run for run in runs if run.purpose == "screen" and run.status != "harness_abort"][:1]
        if not first:
            return self._surprises.get(oid, (None, None, None))
        objective, parents = self.study.objective, self._runs(parent)
        mine, theirs = offsets(first, objective.metric), offsets(parents, objective.metric)
        self._surprises[oid] = (
            surprise(objective, mine, theirs) if mine and theirs else None,
            lighter(first, parents, weighed),
            lighter(first, parents, held),
        )
        return self._surprises[oid]

    def _runs(self, oid: str) -> Sequence[Run]:
        try:
            found = self._outcome_of(oid)
        except FormatError:  # anybody's note: it teaches nothing
            return ()
        return [run for run in found.runs if run.purpose in TAUGHT] if found else ()
