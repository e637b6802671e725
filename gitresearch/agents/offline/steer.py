"""Which levers to turn, and to what.

Candidates are small changes to the parent: one to three of the specialist's levers, set to what the study says to try,
to what TPE suggests, or to anything; then the best of them together with others. Each is judged by the expected
improvement over the head under the effects learned so far and by its chance to run to the end and stay within the
study's limits; the best that was never tried becomes the trial.
"""

import math
import random
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from gitresearch.agents.offline import tpe
from gitresearch.agents.offline.domain import Choice
from gitresearch.agents.offline.history import Scene, Values
from gitresearch.agents.offline.learned import NO_KEEP, Learned
from gitresearch.agents.offline.levers import Lever
from gitresearch.agents.offline.literals import Value
from gitresearch.study import Objective

# Found on the made-up problems of benchmarks/search.py and checked on others: docs/decisions/0012.
CANDIDATES = 20  # drawn
JOINED, BEST, LONGEST = 2, 3, 4  # times that the best three are joined with all others, to so many levers at most
COUNTS = (5, 3, 2)  # how often a candidate turns one, two, three levers
SUGGESTED = 8  # one candidate in so many takes what TPE suggests
HINTED = 0.7  # share of the draws that take what the study says to try, as long as there is any left
NEAR, STEP = 0.3, 0.2  # share of the draws that stay near the present value, and how near (1: the whole range)
BACK = (0.0, 0.15, 0.3, 0.45, 0.6)  # of a change that failed, how much a repair keeps
WOKEN = 0.5  # share of the levers that a move brings to life which move with it
CURIOSITY = 0.2  # share of the uncertainty that counts as a chance of gain
CAUTION = 12  # power of the chance to run to the end: a failure costs a trial and teaches no score
WITHIN = 4  # the same of the chance to stay within one limit, which is known better
MENDED = 8  # and where a repair is asked for
HOPE = 0.5  # of a lever's usual effect: the gain that a value is hoped to bring which the study says to try
_NORMAL = NormalDist()


Key = tuple[tuple[str, Value], ...]


@dataclass(frozen=True)
class Move:
    """Levers and the values they get, with the gain over the head that is expected of it (None: nothing is known)."""

    changes: Mapping[str, Value]
    gain: float | None = None
    sd: float = 0.0


@dataclass(frozen=True)
class Steer:
    """One choice to make: from where, and with what luck."""

    scene: Scene
    objective: Objective
    head: str
    parent: str
    operator: str
    seed: int

    def moves(self) -> list[Move]:
        """Candidate moves, best first."""
        rng = random.Random(self.seed)  # noqa: S311  (a search, not a secret)
        drawn = self._repairs(rng) if self.operator == "repair" else self._changes(rng)
        pool: dict[Key, Mapping[str, Value]] = {_key(move): move for move in drawn}
        learned = Learned.of(self.scene, self.objective, self.head)
        top = learned.gains.predict(self.scene.points[self.head].values)[0] if learned.gains else 0.0
        within = MENDED if self.operator == "repair" else WITHIN
        judged = [self._judged(move, learned, top, within) for move in pool.values()]
        for _ in range(JOINED if self.operator != "repair" else 0):
            judged.sort(key=lambda one: -one[0])
            more = self._joined([move.changes for _, move in judged], pool)
            pool |= more
            judged += [self._judged(move, learned, top, within) for move in more.values()]
        judged.sort(key=lambda one: -one[0])
        return [move for _, move in judged]

    def _judged(self, changes: Mapping[str, Value], learned: Learned, top: float, within: float) -> tuple[float, Move]:
        """What a move is worth, over a head of which `top` is expected."""
        there = {**self.scene.here, **changes}
        mean, sd = learned.gains.predict(there) if learned.gains else (0.0, 1.0)
        hoped = HOPE * learned.scale * sum(value in self.scene.hints[key] for key, value in changes.items())
        worth = expected_improvement(mean - top + hoped, CURIOSITY * sd) * learned.works(there, within, CAUTION)
        return worth, Move(changes, mean - top if learned.gains else None, sd)

    def _changes(self, rng: random.Random) -> list[dict[str, Value]]:
        """One to three levers, set to what TPE suggests or to anything."""
        own = self._working
        good = tpe.suggest(own, self._tried(), 2, self.seed)
        out = []
        for i in range(CANDIDATES):
            count = rng.choices((1, 2, 3), COUNTS)[0]
            keys = rng.sample(list(own), min(count, len(own)))
            values = rng.choice(good) if i % SUGGESTED == 1 else {key: self._drawn(own[key], rng) for key in keys}
            out.append(self._sense({key: values[key] for key in keys}, rng))
        return [move for move in out if move]

    def _joined(self, moves: Sequence[Mapping[str, Value]], known: Container[Key]) -> dict[Key, Mapping[str, Value]]:
        """The best few of the moves together with each other one, without what does nothing then. What gains a score
        at a limit's cost goes with what makes room there, and neither is worth much by itself."""
        found: dict[Key, Mapping[str, Value]] = {}
        points = self.scene.points.values()
        tried = {key for key in self.scene.own if any(p.values.get(key) != self.scene.here[key] for p in points)}
        for best in moves[:BEST]:
            for other in (move for move in moves if move.keys() <= tried):
                there = {**self.scene.here, **other, **best}
                both = {key: there[key] for key in {**other, **best} if self.scene.levers[key].works(there)}
                if len(both) <= LONGEST and _key(both) not in known:
                    found[_key(both)] = both
        return found

    @property
    def _working(self) -> dict[str, Lever]:
        """The specialist's levers that do anything where they stand; all, where none does."""
        levers = {key: self.scene.levers[key] for key in self.scene.own}
        return {key: lever for key, lever in levers.items() if lever.works(self.scene.here)} or levers

    def _sense(self, move: Mapping[str, Value], rng: random.Random) -> dict[str, Value]:
        """A move without what would change nothing; what it wakes may move with it, since its value was nobody's."""
        scene = self.scene
        there = {**scene.here, **move}
        woken = (scene.levers[key] for key in scene.own if key not in move and not scene.levers[key].works(scene.here))
        more = {lever.key: self._drawn(lever, rng) for lever in woken if lever.works(there) and rng.random() < WOKEN}
        there |= more
        wanted = {**move, **more}.items()
        return {key: to for key, to in wanted if to != scene.here[key] and scene.levers[key].works(there)}

    def _drawn(self, lever: Lever, rng: random.Random) -> Value:
        """A value that the study says to try and nobody has, or another."""
        first = self.scene.hints[lever.key]
        return rng.choice(first) if first and rng.random() < HINTED else drawn(lever, rng)

    def _repairs(self, rng: random.Random) -> list[dict[str, Value]]:
        """Keep part of what failed: some of its levers go back, all or half the way, or another lever makes room."""
        scene = self.scene
        before = scene.points[self.parent].parent
        old = scene.points[before].values if before in scene.points else {}
        changed = [key for key in scene.own if key in old and old[key] != scene.here[key]]
        if not changed:
            return self._changes(rng)
        out = []
        for i in range(CANDIDATES):
            back = {key: part_way(scene.levers[key], old[key], rng.choice(BACK)) for key in changed}
            keep = rng.randrange(len(changed)) if len(changed) > 1 else 0
            move = {key: value for j, (key, value) in enumerate(back.items()) if j != keep or len(changed) == 1}
            if i % 2:
                other = rng.choice(list(self._working))
                move = {other: anywhere(scene.levers[other], rng)}
            out.append(self._sense(move, rng))
        return [move for move in out if move]

    def _tried(self) -> list[tuple[Values, float | None]]:
        """Every trial's settings with its loss; what can't be kept counts as worse than anything measured."""
        scores = [p.score for p in self.scene.points.values() if p.score is not None]
        sign = 1 if self.objective.direction == "min" else -1
        worst = max((sign * score for score in scores), default=0.0)
        out: list[tuple[Values, float | None]] = []
        for point in self.scene.points.values():
            lost = point.node.failed or point.node.status in NO_KEEP
            out.append((point.values, worst if lost else None if point.score is None else sign * point.score))
        return out


def _key(changes: Mapping[str, Value]) -> Key:
    return tuple(sorted(changes.items(), key=str))


def part_way(lever: Lever, old: Value, share: float) -> Value:
    """Back towards the old value, keeping a share of the way."""
    if isinstance(lever.domain, Choice) or not share:
        return old
    a, b = lever.domain.place(old), lever.domain.place(lever.value)
    return lever.domain.value(a + share * (b - a))


def anywhere(lever: Lever, rng: random.Random) -> Value:
    """A value from all over the lever's domain."""
    if isinstance(lever.domain, Choice):
        return rng.choice([option for option in lever.domain.options if option != lever.value] or [lever.value])
    return lever.domain.value(rng.random())


def drawn(lever: Lever, rng: random.Random) -> Value:
    """A value near the one that is there, or from anywhere; of choices any other."""
    if isinstance(lever.domain, Choice) or rng.random() >= NEAR:
        return anywhere(lever, rng)
    return lever.domain.value(lever.domain.place(lever.value) + rng.gauss(0.0, STEP))


def expected_improvement(mean: float, sd: float) -> float:
    """E[max(0, X)] for X normal (Jones et al. 1998)."""
    if sd <= 0:
        return max(mean, 0.0)
    z = mean / sd
    return mean * _NORMAL.cdf(z) + sd * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
