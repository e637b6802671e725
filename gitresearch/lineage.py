"""Lineage: the graph of trials with what was found about them. Pure: it reads values and touches nothing.

Built once from all records and grown one trial at a time; every question is answered from indexes, so that nothing
here costs the square of the history. Order is commit order (time, then oid), which every clone sees alike.
"""

from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from gitresearch.outcome import FAILED, Summary
from gitresearch.study import Objective
from gitresearch.trial import Trial

RANKED = frozenset({"baseline", "keep", "discard"})  # a disqualified trial has a score and no rank


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
    """All trials of one study.

    What the loop asks each turn (head, best, what waits, figures) is kept up to date as trials are put, so that a turn
    costs the same at 100 trials and at 100,000.
    """

    def __init__(self, objective: Objective, nodes: Iterable[Node] = ()) -> None:
        self.objective = objective
        self._nodes: dict[str, Node] = {}
        self._children: dict[str, list[str]] = defaultdict(list)
        self._by_tree: dict[str, str] = {}
        self._by_status: dict[str, dict[str, None]] = defaultdict(dict)  # used as ordered sets
        self._by_specialist: dict[str, list[str]] = defaultdict(list)
        self._figures: dict[str, SpecialistFigures] = defaultdict(SpecialistFigures)
        self._board: list[tuple[float, int, str]] | None = None  # ranks of the ranked, once asked for
        self._order: list[str] = []
        self._sorted = True
        for node in nodes:
            self.put(node)

    def put(self, node: Node) -> None:
        """Add a trial, or replace what is known about it."""
        oid = node.trial.oid
        before = self._nodes.get(oid)
        if before is None:
            self._sorted = self._sorted and (not self._order or self._key(self._order[-1]) <= (node.trial.time, oid))
            self._order.append(oid)
            self._by_specialist[node.trial.specialist].append(oid)
            for parent in node.trial.parents:
                self._children[parent].append(oid)
            self._by_tree.setdefault(node.trial.tree, oid)
        else:
            self._by_status[before.status].pop(oid, None)
            self._count(before, -1)
            if self._board is not None and self._ranked(before):
                self._board.remove(self._rank(before))
        self._nodes[oid] = node
        self._by_status[node.status][oid] = None
        self._count(node, 1)
        if self._board is not None and self._ranked(node):
            insort(self._board, self._rank(node))

    @staticmethod
    def _ranked(node: Node) -> bool:
        return node.score is not None and node.status in RANKED

    def _count(self, node: Node, sign: int) -> None:
        figures = self._figures[node.trial.specialist]
        figures.trials += sign
        figures.statuses[node.status] += sign
        figures.seconds += sign * (node.summary.seconds if node.summary else 0.0)

    def _key(self, oid: str) -> tuple[int, str]:
        return self._nodes[oid].trial.time, oid

    def _sort(self) -> None:
        if not self._sorted:
            self._order.sort(key=self._key)
            for oids in self._by_specialist.values():
                oids.sort(key=self._key)
            self._sorted = True

    def _having(self, *statuses: str) -> list[Node]:
        return [self._nodes[oid] for status in statuses for oid in self._by_status[status]]

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        """Every trial, oldest first."""
        self._sort()
        return (self._nodes[oid] for oid in self._order)

    def __contains__(self, oid: str) -> bool:
        return oid in self._nodes

    def __getitem__(self, oid: str) -> Node:
        return self._nodes[oid]

    def get(self, oid: str) -> Node | None:
        return self._nodes.get(oid)

    @property
    def head(self) -> Node | None:
        """What the next trial has to beat: the best-scored keep, provisional or not; the baseline if none is kept."""
        return self._first(self._having("keep")) or self._first(self._having("baseline"))

    @property
    def best(self) -> Node | None:
        """The best confirmed trial; the baseline until one is."""
        confirmed = [node for node in self._having("keep") if node.summary and node.summary.confirmed]
        return self._first(confirmed) or self._first(self._having("baseline"))

    def _first(self, pool: Iterable[Node]) -> Node | None:
        return min((node for node in pool if node.score is not None), key=self._rank, default=None)

    def _rank(self, node: Node) -> tuple[float, int, str]:
        score = node.score or 0.0
        return (score if self.objective.direction == "min" else -score), node.trial.time, node.trial.oid

    def leaderboard(self, n: int = 20) -> list[Node]:
        """The n best-scored trials, best first; a disqualified one never ranks."""
        if self._board is None:
            self._board = sorted(self._rank(node) for node in self._nodes.values() if self._ranked(node))
        return [self._nodes[oid] for _, _, oid in self._board[:n]]

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
        self._sort()
        oids = self._order if specialist is None else self._by_specialist.get(specialist, [])
        return [self._nodes[oid] for oid in reversed(oids[-n:])] if n else []

    def pending(self) -> list[Node]:
        """Trials without a readable outcome, oldest first."""
        return sorted(self._having("pending"), key=lambda node: self._key(node.trial.oid))

    def failures(self, n: int, specialist: str | None = None) -> list[Node]:
        """The latest n failures, newest first."""
        pool: list[Node] = []
        for status in sorted(FAILED):
            # Ordered as they were put: the last of each status hold the last of all.
            nodes = (self._nodes[oid] for oid in reversed(self._by_status[status]))
            pool += islice((node for node in nodes if specialist in (None, node.trial.specialist)), n)
        return sorted(pool, key=lambda node: self._key(node.trial.oid), reverse=True)[:n]

    def same_tree(self, tree: str) -> Node | None:
        """An earlier trial with exactly this tree: its outcome is known, a second would be waste."""
        oid = self._by_tree.get(tree)
        return self._nodes[oid] if oid else None

    def figures(self) -> dict[str, SpecialistFigures]:
        """Per specialist: trials by status, gain of its keeps over their parents, seconds of evaluation."""
        gains: dict[str, float] = defaultdict(float)
        for node in self._having("keep"):
            gains[node.trial.specialist] += max(0.0, self.depth_gain(node.trial.oid) or 0.0)
        return {
            name: replace(figures, gain=gains[name])
            for name, figures in self._figures.items()
            if figures.trials and name != "baseline"
        }

    def statuses(self) -> Counter[str]:
        """How many trials have each status."""
        return Counter({status: len(oids) for status, oids in self._by_status.items() if oids})

    def settle(self, oid: str, summary: Summary) -> None:
        """Put a trial's outcome."""
        self.put(replace(self._nodes[oid], summary=summary, broken=""))
