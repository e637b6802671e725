"""Lineage: the graph of trials with what was found about them. Pure: it reads values and touches nothing.

Built once from all records and grown one trial at a time; every question is answered from indexes, so that nothing
here costs the square of the history. Order is commit order (time, then oid), which every clone sees alike.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from gitresearch.outcome import FAILED, MEASURED, Summary
from gitresearch.study import Objective
from gitresearch.trial import Trial


@dataclass(frozen=True, slots=True)
class Node:
    """A trial with its outcome's head; `summary` is None while it waits to be evaluated. `broken` says why a note that
    is there can't be read."""

    trial: Trial
    summary: Summary | None = None
    broken: str = ""

    @property
    def status(self) -> str:
        return self.summary.status if self.summary else "unreadable" if self.broken else "pending"

    @property
    def score(self) -> float | None:
        return self.summary.score if self.summary else None

    @property
    def failed(self) -> bool:
        return self.summary is not None and self.summary.status in FAILED


@dataclass
class SpecialistFigures:
    """What a specialist's trials came to."""

    trials: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    gain: float = 0.0  # sum over its keeps of the gain over their parents, in the metric's units
    seconds: float = 0.0


class Lineage:
    """All trials of one study."""

    def __init__(self, objective: Objective, nodes: Iterable[Node] = ()) -> None:
        self.objective = objective
        self._nodes: dict[str, Node] = {}
        self._children: dict[str, list[str]] = defaultdict(list)
        self._by_tree: dict[str, str] = {}
        self._order: list[str] = []
        self._sorted = True
        for node in nodes:
            self.put(node)

    def put(self, node: Node) -> None:
        """Add a trial, or replace what is known about it."""
        oid = node.trial.oid
        if oid not in self._nodes:
            self._sorted = self._sorted and (not self._order or self._key(self._order[-1]) <= (node.trial.time, oid))
            self._order.append(oid)
            for parent in node.trial.parents:
                self._children[parent].append(oid)
            self._by_tree.setdefault(node.trial.tree, oid)
        self._nodes[oid] = node

    def _key(self, oid: str) -> tuple[int, str]:
        return self._nodes[oid].trial.time, oid

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        """Every trial, oldest first."""
        if not self._sorted:
            self._order.sort(key=self._key)
            self._sorted = True
        return (self._nodes[oid] for oid in self._order)

    def __contains__(self, oid: str) -> bool:
        return oid in self._nodes

    def __getitem__(self, oid: str) -> Node:
        return self._nodes[oid]

    def get(self, oid: str) -> Node | None:
        return self._nodes.get(oid)

    @property
    def baseline(self) -> Node | None:
        """The unchanged recipe's trial."""
        return next((node for node in self if node.trial.operator == "baseline"), None)

    @property
    def head(self) -> Node | None:
        """What the next trial has to beat: the best-scored keep, provisional or not; the baseline where none is kept."""
        keeps = [node for node in self._nodes.values() if node.status == "keep" and node.score is not None]
        pool = keeps or [node for node in self._nodes.values() if node.status == "baseline" and node.score is not None]
        return self._best_of(pool)

    @property
    def best(self) -> Node | None:
        """The best confirmed trial; the baseline until one is."""
        pool = [n for n in self._nodes.values() if n.summary and (n.summary.confirmed or n.status == "baseline")]
        confirmed = [node for node in pool if node.status == "keep"]
        return self._best_of(confirmed or pool)

    def _best_of(self, pool: list[Node]) -> Node | None:
        scored = [node for node in pool if node.score is not None]
        sign = 1 if self.objective.direction == "min" else -1
        return min(scored, key=lambda n: (sign * (n.score or 0.0), n.trial.time, n.trial.oid), default=None)

    def leaderboard(self, n: int = 20, *, kept_only: bool = False) -> list[Node]:
        """The n best-scored trials, best first; a disqualified one never ranks."""
        statuses = {"keep", "baseline"} if kept_only else MEASURED - {"disqualified"}
        pool = [node for node in self._nodes.values() if node.status in statuses and node.score is not None]
        sign = 1 if self.objective.direction == "min" else -1
        return sorted(pool, key=lambda node: (sign * (node.score or 0.0), node.trial.time, node.trial.oid))[:n]

    def children(self, oid: str) -> list[Node]:
        return [self._nodes[child] for child in self._children.get(oid, [])]

    def parents(self, oid: str) -> list[Node]:
        """The parents that are trials of this study (the baseline's parent is the base commit, which is none)."""
        return [self._nodes[parent] for parent in self._nodes[oid].trial.parents if parent in self._nodes]

    def chain(self, oid: str) -> list[Node]:
        """From the baseline to the trial along first parents."""
        out = [self._nodes[oid]]
        while parents := self.parents(out[-1].trial.oid):
            out.append(parents[0])
        return out[::-1]

    def depth_gain(self, oid: str) -> float | None:
        """The gain of a trial over its first parent, in the metric's units; None where either has no score."""
        parents = self.parents(oid)
        score = self._nodes[oid].score
        if not parents or score is None or parents[0].score is None:
            return None
        return self.objective.gain(score, parents[0].score)

    def recent(self, n: int, specialist: str | None = None) -> list[Node]:
        """The latest n trials, newest first."""
        iter(self)  # sorts
        out: list[Node] = []
        for oid in reversed(self._order):
            node = self._nodes[oid]
            if specialist in (None, node.trial.specialist):
                out.append(node)
                if len(out) == n:
                    break
        return out

    def pending(self) -> list[Node]:
        """Trials without a readable outcome, oldest first."""
        return [node for node in self if node.summary is None and not node.broken]

    def failures(self, n: int, specialist: str | None = None) -> list[Node]:
        """The latest n failures, newest first."""
        out = (node for node in self.recent(len(self), specialist) if node.failed)
        return [node for node, _ in zip(out, range(n), strict=False)]

    def same_tree(self, tree: str) -> Node | None:
        """An earlier trial with exactly this tree: its outcome is known, a second would be waste."""
        oid = self._by_tree.get(tree)
        return self._nodes[oid] if oid else None

    def figures(self) -> dict[str, SpecialistFigures]:
        """Per specialist: trials by status, gain of its keeps over their parents, seconds of evaluation."""
        out: dict[str, SpecialistFigures] = defaultdict(SpecialistFigures)
        for node in self:
            if node.trial.operator == "baseline":
                continue
            figures = out[node.trial.specialist]
            figures.trials += 1
            figures.statuses[node.status] += 1
            figures.seconds += node.summary.seconds if node.summary else 0.0
            if node.status == "keep":
                figures.gain += max(0.0, self.depth_gain(node.trial.oid) or 0.0)
        return dict(out)

    def statuses(self) -> Counter[str]:
        """How many trials have each status."""
        return Counter(node.status for node in self._nodes.values())

    def settle(self, oid: str, summary: Summary) -> None:
        """Put a trial's outcome."""
        self.put(replace(self._nodes[oid], summary=summary, broken=""))
