"""Which levers to turn, and to what.

Candidates are small changes to the parent: one to three of the specialist's levers, set to what the study says to try,
to what TPE suggests, or to anything. Each is judged by the expected improvement over the head under the effects learned
so far and by its chance to run to the end and stay within the study's limits; the best that was never tried becomes the
trial.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median, stdev

from gitresearch.agents.offline import effects, tpe
from gitresearch.agents.offline.domain import Choice
from gitresearch.agents.offline.effects import Effects, Similarity
from gitresearch.agents.offline.history import Point, Scene, Values
from gitresearch.agents.offline.levers import Lever
from gitresearch.agents.offline.literals import Value
from gitresearch.outcome import EARLY_STOP
from gitresearch.study import Objective

# Found on the made-up problems 0 to 23 of benchmarks/search.py and checked on 40 others: docs/decisions/0012.
CANDIDATES = 16  # drawn; out of many more the luckiest guess wins, not the best move
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
FAR = 0.5  # a limit that nothing came nearer to than this share of it is no care
FAINT = 0.005  # the noise of what is left of a limit, as a share of it, where no trial ran twice
HOPE = 0.5  # of a lever's usual effect: the gain that a value is hoped to bring which the study says to try
DISQUALIFIED = "disqualified"
NO_KEEP = (EARLY_STOP, DISQUALIFIED)  # no failures, and no trial to be kept
WRECK = 4  # losses above so many usual effects are drawn in
_NORMAL = NormalDist()


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
        pool = {tuple(sorted(move.items(), key=str)): move for move in drawn}
        learned = self._learned()
        top = learned.gains.predict(self.scene.points[self.head].values)[0] if learned.gains else 0.0
        within = MENDED if self.operator == "repair" else WITHIN
        judged = []
        for move in pool.values():
            there = {**self.scene.here, **move}
            mean, sd = learned.gains.predict(there) if learned.gains else (0.0, 1.0)
            hoped = HOPE * learned.scale * sum(value in self.scene.hints[key] for key, value in move.items())
            worth = expected_improvement(mean - top + hoped, CURIOSITY * sd) * learned.works(there, within)
            judged.append((worth, Move(move, mean - top if learned.gains else None, sd)))
        judged.sort(key=lambda pair: -pair[0])
        return [move for _, move in judged]

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

    def _learned(self) -> "_Learned":
        """Effects on the gain over the head, on what is left of each limit, and on whether a trial fails otherwise."""
        points = list(self.scene.points.values())
        base = self.scene.points[self.head].score if self.head in self.scene.points else None
        scored = [p for p in points if p.score is not None and not self._barred(p)]
        if base is None or not scored:
            return _Learned()
        alike = Similarity(self.scene.levers)
        gained = {p.oid: self.objective.gain(p.score or 0.0, base) for p in scored}
        # What could not win, or was barred, is taken to be as bad as the usual loss, unless it is known by how much.
        losses = sorted(gain for gain in gained.values() if gain < 0)
        usual = losses[len(losses) // 2] if losses else 0.0
        slow = {p.oid: self.objective.gain(at, base) for p in points if (at := self.scene.slow(p.oid)) is not None}
        known = [p for p in points if p.oid in gained or p.node.status in NO_KEEP]
        chosen = _latest([(p, gained.get(p.oid, slow.get(p.oid, usual))) for p in known])
        sizes = sorted(abs(gain) for _, gain in chosen if gain)
        noise = max((p.node.summary.sd for p in points if p.node.summary), default=0.0) or abs(base or 0.0) * 1e-3
        scale = max(sizes[len(sizes) // 2] if sizes else 0.0, 3 * noise)
        gains = Effects(alike, [p.values for p, _ in chosen], [soft(gain, scale) for _, gain in chosen], scale, noise)
        return _Learned(gains, self._limits(alike, points), self._failures(alike, points, [p for p, _ in chosen]))

    def _limits(self, alike: Similarity, points: Sequence[Point]) -> list[Effects]:
        """What is left of each limit that some trial came near to."""
        told = [(p, self.scene.margins(p.oid)) for p in points[-effects.MOST :]]
        found = []
        for name in sorted({name for _, each in told for name in each}):
            at = [(p, each[name]) for p, each in told if name in each]
            means = [fmean(values) for _, values in at]
            if min(means) > FAR:
                continue
            noise = max([stdev(values) for _, values in at if len(values) > 1], default=0.0) or FAINT
            level = fmean(means)
            scale = max(median(abs(mean - level) for mean in means), 3 * noise)
            found.append(Effects(alike, [p.values for p, _ in at], means, scale, noise))
        return found

    def _barred(self, point: Point) -> bool:
        """Whether a trial failed, or missed a gate, for a reason that no margin tells."""
        if point.node.status == "harness_abort" or not (point.node.failed or point.node.status == DISQUALIFIED):
            return False
        return all(min(each) >= 0 for each in self.scene.margins(point.oid).values())

    def _failures(self, alike: Similarity, points: Sequence[Point], fine: Sequence[Point]) -> Effects | None:
        """Whether a trial ends without a score for another reason than a limit that was measured."""
        broken = [p for p in points if self._barred(p)]
        fine = [p for p in fine if not self._barred(p)]
        settings = [p.values for p in [*broken[-effects.MOST // 2 :], *fine[-effects.MOST // 2 :]]]
        labels = [1.0] * min(len(broken), effects.MOST // 2)
        labels += [0.0] * (len(settings) - len(labels))
        return Effects(alike, settings, labels, 0.3, 0.2) if broken else None


@dataclass(frozen=True)
class _Learned:
    """What the lineage says of settings: their gain over the head, what they leave of each limit, and of failing."""

    gains: Effects | None = None
    limits: Sequence[Effects] = ()
    failures: Effects | None = None

    @property
    def scale(self) -> float:
        """The effect that a lever is expected to have."""
        return self.gains.scale if self.gains else 1.0

    def works(self, values: Values, within: float) -> float:
        """The chance to run to the end and stay within the limits, drawn in by how little a failure teaches."""
        chance = 1.0
        for limit in self.limits:
            mean, sd = limit.predict(values)
            chance *= _NORMAL.cdf(mean / math.hypot(sd, limit.noise)) ** within
        if self.failures:
            chance *= (1 - min(0.98, max(0.02, self.failures.predict(values)[0]))) ** CAUTION
        return chance


def soft(gain: float, scale: float) -> float:
    """A gain with heavy losses drawn in: how bad a wreck is says little about how good its neighbours are."""
    limit = WRECK * scale
    return gain if gain > -limit else -limit * (1 + math.log(-gain / limit))


def part_way(lever: Lever, old: Value, share: float) -> Value:
    """Back towards the old value, keeping a share of the way."""
    if isinstance(lever.domain, Choice) or not share:
        return old
    a, b = lever.domain.place(old), lever.domain.place(lever.value)
    return lever.domain.value(a + share * (b - a))


def _latest(measured: Sequence[tuple[Point, float]]) -> list[tuple[Point, float]]:
    """The best and the newest, as many as a fit can take."""
    if len(measured) <= effects.MOST:
        return list(measured)
    best = sorted(range(len(measured)), key=lambda i: -measured[i][1])[: effects.MOST // 3]
    newest = range(len(measured) - effects.MOST + len(best), len(measured))
    return [measured[i] for i in sorted({*best, *newest})]


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
