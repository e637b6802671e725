"""Lineage: the graph of trials with what was found about them. Pure: it reads values and touches nothing.

Built once from all records and grown one trial at a time. Every question of the loop is answered from sorted indexes,
so that a turn costs the same at 100 trials and at 100,000, and the answer is the same whatever the order of coming.
Order is commit order (time, then oid), which every clone sees alike.
"""

import math
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

from gitresearch.outcome import FAILED, REVOKED, Summary
from gitresearch.study import Objective
from gitresearch.trial import Trial

RANKED = frozenset({"baseline", "keep", "discard"})  # a disqualified trial has a score and no rank
# Measured or stopped just short of counting: worth another step where the idea is good.
BLOCKED = frozenset({"size_blocked", "train_budget_overrun", "eval_budget_overrun", "disqualified"})


class Known(Protocol):
    """What a record of the store says of a trial."""

    @property
    def trial(self) -> Trial: ...
    @property
    def summary(self) -> Summary | None: ...
    @property
    def broken(self) -> str: ...


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

    @property
    def offered(self) -> bool:
        """Whether agents are shown it: not what is evidence of tampering or was taken back, which they would copy."""
        return self.status != "invalid"


@dataclass
class SpecialistFigures:
    """What a specialist's trials came to."""

    trials: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    gain: float = 0.0  # sum over its keeps of the gain over their parents, in the metric's units
    seconds: float = 0.0


class _Sorted:
    """Trials in order, by a key that ends in the oid.

    Unsorted until the first question (loading sorts once); then kept by bisection: a change in 100,000 moves 800 KB of
    pointers, some 30 µs.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[Any, ...]] = []
        self._asked = False

    def _ordered(self) -> list[tuple[Any, ...]]:
        if not self._asked:
            self._entries.sort()
            self._asked = True
        return self._entries

    def add(self, entry: tuple[Any, ...]) -> None:
        if self._asked and self._entries and self._entries[-1] > entry:
            insort(self._entries, entry)
        else:
            self._entries.append(entry)

    def discard(self, entry: tuple[Any, ...]) -> None:
        entries = self._ordered()
        del entries[bisect_left(entries, entry)]

    def __len__(self) -> int:
        return len(self._entries)

    def first(self, n: int | None = None) -> list[str]:
        """The first n, or all."""
        return [entry[-1] for entry in self._ordered()[:n]]

    def at(self, place: int) -> str:
        """The one at a place, from 0."""
        oid: str = self._ordered()[place][-1]
        return oid

    def last(self, n: int) -> list[str]:
        """The last n, last first."""
        return [entry[-1] for entry in self._ordered()[: -n - 1 : -1]]

    def backwards(self) -> Iterator[str]:
        """All, last first."""
        return (entry[-1] for entry in reversed(self._ordered()))


class Lineage:
    """All trials of one study. A trial's place in every index follows from its node alone, so `put` takes it out where
    it was and puts it in where it is."""

    def __init__(self, objective: Objective, nodes: Iterable[Node] = ()) -> None:
        self.objective = objective
        self._nodes: dict[str, Node] = {}
        self._children: dict[str, _Sorted] = defaultdict(_Sorted)
        self._by_tree: dict[str, tuple[int, str]] = {}
        self._evaluated: dict[str, str] = {}  # a trial's oid by its tree
        self._by_time: dict[str, _Sorted] = defaultdict(_Sorted)  # the indexes are named in `_index`
        self._by_score: dict[str, _Sorted] = defaultdict(_Sorted)
        self._figures: dict[str, SpecialistFigures] = defaultdict(SpecialistFigures)
        self._milliseconds: Counter[str] = Counter()  # whole numbers: a sum of floats depends on its order
        self._gains: dict[str, float] | None = None  # per specialist, until a keep or the score of a parent changes
        for node in nodes:
            self.put(node)

    @classmethod
    def of(cls, objective: Objective, records: Iterable[Known]) -> "Lineage":
        """The lineage of what the store knows."""
        return cls(objective, (Node(known.trial, known.summary, known.broken) for known in records))

    def put(self, node: Node) -> None:
        """Add a trial, or replace what is known about it."""
        oid = node.trial.oid
        before = self._nodes.get(oid)
        if before is None:
            key = self._key(node)
            for parent in node.trial.parents:
                self._children[parent].add(key)
            self._by_tree[node.trial.tree] = min(key, self._by_tree.get(node.trial.tree, key))
            rescored = oid in self._children
        else:
            self._index(before, _Sorted.discard, -1)
            rescored = oid in self._children and before.score != node.score
        self._nodes[oid] = node
        self._index(node, _Sorted.add, 1)
        if rescored or node.status == "keep" or (before is not None and before.status == "keep"):
            self._gains = None

    def _index(self, node: Node, change: Callable[[_Sorted, tuple[Any, ...]], None], sign: int) -> None:
        """Add a node to each index it belongs to, or take it out, and count it."""
        name, status, key = node.trial.specialist, node.status, self._key(node)
        for index in ("", f"by {name}", f"is {status}"):
            change(self._by_time[index], key)
        self._note_files(node, sign)
        if node.failed:
            change(self._by_time["failed"], key)
            change(self._by_time[f"failed by {name}"], key)
        if node.score is not None and status in RANKED:
            rank = self._rank(node)
            change(self._by_score["ranked"], rank)
            change(self._by_score[status], rank)
            if status == "keep" and node.summary and node.summary.confirmed:
                change(self._by_score["confirmed"], rank)
        figures = self._figures[name]
        figures.trials += sign
        figures.statuses[status] += sign
        self._milliseconds[name] += sign * round(1000 * node.summary.seconds if node.summary else 0.0)

    def _note_files(self, node: Node, sign: int) -> None:
        """Remember that these files were evaluated, by the first trial in its own right that was."""
        tree, oid, head = node.trial.tree, node.trial.oid, node.summary
        if sign < 0 and self._evaluated.get(tree) == oid:
            del self._evaluated[tree]
        counts = head is not None and head.status != "harness_abort" and head.label != REVOKED
        if sign > 0 and counts and node.trial.operator != "replicate":
            self._evaluated.setdefault(tree, oid)

    @staticmethod
    def _key(node: Node) -> tuple[int, str]:
        return node.trial.time, node.trial.oid

    def _rank(self, node: Node) -> tuple[float, int, str]:
        score = node.score or 0.0
        return (score if self.objective.direction == "min" else -score), node.trial.time, node.trial.oid

    def _of(self, oids: Iterable[str]) -> list[Node]:
        return [self._nodes[oid] for oid in oids]

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        """Every trial, oldest first."""
        return iter(self._of(self._by_time[""].first()))

    def __contains__(self, oid: str) -> bool:
        return oid in self._nodes

    def __getitem__(self, oid: str) -> Node:
        return self._nodes[oid]

    def get(self, oid: str) -> Node | None:
        return self._nodes.get(oid)

    def alone(self, oid: str) -> "Lineage":
        """A lineage of that trial only: what the control arm is shown."""
        return Lineage(self.objective, [self._nodes[oid]] if oid in self._nodes else [])

    def find(self, start: str) -> list[Node]:
        """The trials whose name begins so; few digits may mean several."""
        if start in self._nodes:
            return [self._nodes[start]]
        return [node for oid, node in self._nodes.items() if oid.startswith(start)] if len(start) >= 4 else []

    @property
    def head(self) -> Node | None:
        """What the next trial has to beat: the best-scored keep, provisional or not; the baseline if none is kept."""
        return self._leader("keep")

    @property
    def best(self) -> Node | None:
        """The best confirmed trial; the baseline until one is."""
        return self._leader("confirmed")

    def _leader(self, index: str) -> Node | None:
        leaders = self._by_score[index].first(1) or self._by_score["baseline"].first(1)
        return self._nodes[leaders[0]] if leaders else None

    def leaderboard(self, n: int = 20) -> list[Node]:
        """The n best-scored trials, best first; a disqualified one never ranks."""
        return self._of(self._by_score["ranked"].first(n))

    @property
    def ranked(self) -> int:
        """How many trials have a rank."""
        return len(self._by_score["ranked"])

    def at_rank(self, place: int) -> Node:
        """The trial of that place by score, from 0: any one costs the same."""
        return self._nodes[self._by_score["ranked"].at(place)]

    @property
    def noise(self) -> float:
        """Two standard deviations of the baseline's seeds; 0 while nobody knows."""
        return next((2 * node.summary.sd for node in self.baselines() if node.summary and node.summary.sd > 0), 0.0)

    def close(self, node: Node) -> bool:
        """Whether a discard lies within the noise of the head, which has it beaten by luck or not at all."""
        head = self.head.score if self.head else None
        if node.status != "discard" or node.trial.operator == "replicate" or head is None or node.score is None:
            return False
        return self.objective.gain(head, node.score) <= self.noise and self.noise > 0

    def children(self, oid: str, last: int | None = None) -> list[Node]:
        """The trials that have it for a parent, oldest first; only the last few where a number is given."""
        if oid not in self._children:
            return []
        found = self._children[oid]
        return self._of(found.first() if last is None else reversed(found.last(last)))

    def parents(self, oid: str) -> list[Node]:
        """The parents that are trials of this study (the baseline's parent is the base commit, which is none)."""
        return [self._nodes[parent] for parent in self._nodes[oid].trial.parents if parent in self._nodes]

    def chain(self, oid: str, last: int | None = None) -> list[Node]:
        """From the baseline to the trial along first parents; only the last few steps where a number is given."""
        out = [self._nodes[oid]]
        while len(out) != last and (parents := self.parents(out[-1].trial.oid)):
            out.append(parents[0])
        return out[::-1]

    def ancestors(self, oid: str, most: int) -> set[str]:
        """The trial and what it stands on through all its parents, nearest first, as far as `most` trials."""
        found, waiting = {oid}, [oid]
        for current in waiting:
            for node in self.parents(current):
                if node.trial.oid not in found and len(found) < most:
                    found.add(node.trial.oid)
                    waiting.append(node.trial.oid)
        return found

    def keeps(self, n: int) -> list[Node]:
        """The n best-scored keeps, best first."""
        return self._of(self._by_score["keep"].first(n))

    def baselines(self) -> list[Node]:
        """The measured baselines of the study, best first."""
        return self._of(self._by_score["baseline"].first())

    def depth_gain(self, oid: str) -> float | None:
        """The gain of a trial over its first parent, in the metric's units; None where either has no score."""
        parents = self.parents(oid)
        score = self._nodes[oid].score
        if not parents or score is None or parents[0].score is None:
            return None
        return self.objective.gain(score, parents[0].score)

    def recent(self, n: int, specialist: str | None = None) -> list[Node]:
        """The latest n trials, newest first."""
        return self._latest("" if specialist is None else f"by {specialist}", n)

    def offered(self, n: int, specialist: str | None = None) -> list[Node]:
        """The latest n trials that agents are shown, newest first."""
        return self._offered("" if specialist is None else f"by {specialist}", n)

    def pending(self) -> list[Node]:
        """Trials without a readable outcome, oldest first."""
        return self._of(self._by_time["is pending"].first())

    def failures(self, n: int, specialist: str | None = None) -> list[Node]:
        """The latest n failures that agents are shown, newest first."""
        return self._offered("failed" if specialist is None else f"failed by {specialist}", n)

    def _offered(self, index: str, n: int) -> list[Node]:
        if index not in self._by_time:
            return []
        return list(
            islice((node for node in map(self.__getitem__, self._by_time[index].backwards()) if node.offered), n)
        )

    def _latest(self, index: str, n: int) -> list[Node]:
        return self._of(self._by_time[index].last(n)) if index in self._by_time else []

    def same_tree(self, tree: str) -> Node | None:
        """The earliest trial with exactly this tree: its outcome is known, a second would be waste."""
        return self._nodes[self._by_tree[tree][1]] if tree in self._by_tree else None

    def twin(self, trial: Trial) -> Node | None:
        """Another trial with exactly these files that was evaluated: to evaluate this one too would be waste. A
        replicate has none: it is there to be measured again."""
        oid = self._evaluated.get(trial.tree, trial.oid)
        return self._nodes[oid] if oid != trial.oid and trial.operator != "replicate" else None

    def figures(self) -> dict[str, SpecialistFigures]:
        """Per specialist: trials by status, gain of its keeps over their parents, seconds of evaluation."""
        if self._gains is None:
            self._gains = self._summed()
        return {
            name: replace(
                figures,
                statuses=+figures.statuses,
                gain=self._gains.get(name, 0.0),
                seconds=self._milliseconds[name] / 1000,
            )
            for name, figures in self._figures.items()
            if figures.trials and name != "baseline"
        }

    def _summed(self) -> dict[str, float]:
        gains: dict[str, list[float]] = defaultdict(list)
        for oid in self._by_time["is keep"].first():
            gains[self._nodes[oid].trial.specialist].append(max(0.0, self.depth_gain(oid) or 0.0))
        return {name: math.fsum(values) for name, values in gains.items()}

    def statuses(self) -> Counter[str]:
        """How many trials have each status."""
        return Counter({name[3:]: len(found) for name, found in self._by_time.items() if name[:3] == "is " and found})

    def settle(self, oid: str, summary: Summary) -> None:
        """Put a trial's outcome."""
        self.put(replace(self._nodes[oid], summary=summary, broken=""))
