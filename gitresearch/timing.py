"""Where evaluation time went, out of outcomes: useful, wasted, saved; by status and by specialist.

Pure. Useful are the seconds of trials that got a rank (baseline, keep, discard), or were stopped since they could not
get one: they tell something of a recipe that works. Wasted are those of all others: failed, blocked, disqualified,
taken back, or ended by our own fault. These are wall seconds of all runs but a witness's. Saved are the seconds that
early ends spared by each run's own record, by the study's clock, and what repeats that never became trials would have
taken. A note is data from whoever pushed it: one that can't be read saves nothing.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import tomli

from gitresearch.errors import FormatError
from gitresearch.lineage import RANKED, Node
from gitresearch.outcome import EARLY_STOP, REPRODUCE, Outcome, Run

USEFUL = RANKED | {EARLY_STOP}
_MARK = re.compile(rb"\n(?:saved_seconds|foretold) = ")  # a note without either is not parsed
_SPARED = re.compile(rb"\nspared_seconds = ")  # of a proposals note
REPEAT = "repeat"  # the reason of what a repeat would have taken


@dataclass
class Times:
    """Trials with an outcome, and their seconds."""

    trials: int = 0
    useful: float = 0.0
    wasted: float = 0.0
    saved: float = 0.0

    def add(self, node: Node, saved: float) -> None:
        """Count a trial that has an outcome."""
        seconds = node.summary.seconds if node.summary else 0.0
        self.trials += 1
        self.saved += saved
        if node.status in USEFUL:
            self.useful += seconds
        else:
            self.wasted += seconds

    @property
    def share(self) -> float:
        """The wasted share of all that was spent."""
        spent = self.useful + self.wasted
        return self.wasted / spent if spent else 0.0


@dataclass
class Timing:
    """A study's evaluation time: in all, by status, by specialist; what was saved, by reason."""

    total: Times = field(default_factory=Times)
    statuses: dict[str, Times] = field(default_factory=dict)
    specialists: dict[str, Times] = field(default_factory=dict)
    reasons: dict[str, float] = field(default_factory=dict)
    let_on: int = 0  # runs that were to be stopped by their curve, and went on to check
    let_on_kept: int = 0  # of those, trials that were kept


def timing(notes: Iterable[tuple[Node, bytes]]) -> Timing:
    """The times of trials with the notes that count for them, in one pass."""
    found = Timing()
    for node, note in notes:
        runs = told(note)
        spared = saved(runs)
        if any(run.foretold and run.status == "ok" for run in runs):
            found.let_on += 1
            found.let_on_kept += node.status == "keep"
        for reason, seconds in spared.items():
            found.reasons[reason] = found.reasons.get(reason, 0.0) + seconds
        by_status = found.statuses.setdefault(node.status, Times())
        by_specialist = found.specialists.setdefault(node.trial.specialist, Times())
        for times in (found.total, by_status, by_specialist):
            times.add(node, sum(spared.values()))
    return found


def repeats(notes: Iterable[bytes], study: str) -> float:
    """What the study's refused repeats would have taken again, out of its proposals notes."""
    spared = 0.0
    for note in notes:
        try:
            document = tomli.loads(note.decode("utf-8")) if _SPARED.search(note) else {}
            seconds = document.get("spared_seconds", 0.0) if document.get("study") == study else 0.0
            spared += seconds if 0 < seconds < math.inf else 0.0
        except (ValueError, TypeError, RecursionError):
            continue
    return spared


def told(note: bytes) -> Sequence[Run]:
    """The runs of a note that has something to tell here; none of one that can't be read."""
    try:
        return Outcome.parse(note).runs if _MARK.search(note) else ()
    except FormatError:
        return ()


def saved(runs: Iterable[Run]) -> dict[str, float]:
    """What the runs spared, by reason."""
    found: dict[str, float] = {}
    for run in runs:
        if run.purpose != REPRODUCE and run.saved_seconds > 0:
            reason = run.saved_by or "unknown"
            found[reason] = found.get(reason, 0.0) + run.saved_seconds
    return found
