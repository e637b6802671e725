"""Where evaluation time went, out of outcomes: useful, wasted, saved; by status and by specialist.

Pure. Useful are the seconds of trials that got a rank (baseline, keep, discard): they tell something of a recipe that
works. Wasted are those of all others: failed, blocked, disqualified, taken back, or ended by our own fault. These are
wall seconds of all runs but a witness's. Saved are the seconds that early ends spared by each run's own record, by the
study's clock. A note is data from whoever pushed it: one that can't be read saves nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from gitresearch.errors import FormatError
from gitresearch.lineage import RANKED, Node
from gitresearch.outcome import REPRODUCE, Outcome

_MARK = b"\nsaved_seconds = "  # a note without it is not parsed


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
        if node.status in RANKED:
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


def timing(notes: Iterable[tuple[Node, bytes]]) -> Timing:
    """The times of trials with the notes that count for them, in one pass."""
    found = Timing()
    for node, note in notes:
        spared = saved(note)
        for reason, seconds in spared.items():
            found.reasons[reason] = found.reasons.get(reason, 0.0) + seconds
        by_status = found.statuses.setdefault(node.status, Times())
        by_specialist = found.specialists.setdefault(node.trial.specialist, Times())
        for times in (found.total, by_status, by_specialist):
            times.add(node, sum(spared.values()))
    return found


def saved(note: bytes) -> dict[str, float]:
    """What the runs of a note spared, by reason."""
    found: dict[str, float] = {}
    if _MARK not in note:
        return found
    try:
        runs = Outcome.parse(note).runs
    except FormatError:
        return found
    for run in runs:
        if run.purpose != REPRODUCE and run.saved_seconds > 0:
            reason = run.saved_by or "unknown"
            found[reason] = found.get(reason, 0.0) + run.saved_seconds
    return found
