"""What the lineage says of settings: the gain to expect, what is left of each limit, and whether a trial fails."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median
from typing import Self

from gitresearch.agents.offline import effects
from gitresearch.agents.offline.effects import Effects, Similarity
from gitresearch.agents.offline.history import Point, Scene, Values
from gitresearch.noise import pooled
from gitresearch.outcome import EARLY_STOP
from gitresearch.study import Objective

FAR = 0.5  # a limit that nothing came nearer to than this share of it is no care
FAINT = 0.005  # the noise of what is left of a limit, as a share of it, where no trial ran twice
DISQUALIFIED = "disqualified"
NO_KEEP = (EARLY_STOP, DISQUALIFIED)  # no failures, and no trial to be kept
WRECK = 4  # losses above so many usual effects are drawn in
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Limit:
    """What settings leave of a limit, and the standard deviation of one run."""

    left: Effects
    noise: float


@dataclass(frozen=True)
class Learned:
    """Effects on the gain over the head, on what is left of each limit that some trial came near to, and on whether a
    trial ends without a score for another reason than a limit that was measured."""

    gains: Effects | None = None
    limits: Sequence[Limit] = ()
    failures: Effects | None = None

    @classmethod
    def of(cls, scene: Scene, objective: Objective, head: str) -> Self:
        points = list(scene.points.values())
        base = scene.points[head].score if head in scene.points else None
        scored = [p for p in points if p.score is not None and not barred(scene, p)]
        if base is None or not scored:
            return cls()
        gained = {p.oid: objective.gain(p.score or 0.0, base) for p in scored}
        # What could not win, or was barred, is taken to be as bad as the usual loss, unless it is known by how much.
        losses = sorted(gain for gain in gained.values() if gain < 0)
        usual = losses[len(losses) // 2] if losses else 0.0
        slow = {p.oid: objective.gain(at, base) for p in points if (at := scene.slow(p.oid)) is not None}
        known = [p for p in points if p.oid in gained or p.node.status in NO_KEEP]
        chosen = _latest([(p, gained.get(p.oid, slow.get(p.oid, usual))) for p in known])
        alike, fine = Similarity(scene.levers), [p for p, _ in chosen]
        gains = _gains(alike, chosen, _noise(points) or abs(base) * 1e-3 or 1e-3)
        return cls(gains, _limits(scene, alike, points), _failures(scene, alike, points, fine))

    @property
    def scale(self) -> float:
        """The effect that a lever is expected to have."""
        return self.gains.scale if self.gains else 1.0

    def works(self, values: Values, within: float, caution: float) -> float:
        """The chance to run to the end and stay within the limits, drawn in by how little a failure teaches: the powers
        of the chance to stay within a limit, and of that to fail for no other reason."""
        chance = 1.0
        for limit in self.limits:
            mean, sd = limit.left.predict(values)
            chance *= _NORMAL.cdf(mean / math.hypot(sd, limit.noise)) ** within
        if self.failures:
            chance *= (1 - min(0.98, max(0.02, self.failures.predict(values)[0]))) ** caution
        return chance


def barred(scene: Scene, point: Point) -> bool:
    """Whether a trial failed, or missed a gate, for a reason that no margin tells."""
    if point.node.status == "harness_abort" or not (point.node.failed or point.node.status == DISQUALIFIED):
        return False
    return all(min(each) >= 0 for each in scene.margins(point.oid).values())


def soft(gain: float, scale: float) -> float:
    """A gain with heavy losses drawn in: how bad a wreck is says little about how good its neighbours are."""
    limit = WRECK * scale
    return gain if gain > -limit else -limit * (1 + math.log(-gain / limit))


def _gains(alike: Similarity, chosen: Sequence[tuple[Point, float]], noise: float) -> Effects:
    sizes = sorted(abs(gain) for _, gain in chosen if gain)
    scale = max(sizes[len(sizes) // 2] if sizes else 0.0, 3 * noise)
    noises = [noise / math.sqrt(max(1, p.node.summary.n if p.node.summary else 1)) for p, _ in chosen]
    return Effects(alike, [p.values for p, _ in chosen], [soft(gain, scale) for _, gain in chosen], scale, noises)


def _noise(points: Sequence[Point]) -> float:
    """The standard deviation of one run's score, pooled over all trials that ran twice."""
    told = [p.node.summary for p in points if p.node.summary and p.node.summary.n > 1]
    df = sum(one.n - 1 for one in told)
    return math.sqrt(sum((one.n - 1) * one.sd**2 for one in told) / df) if df else 0.0


def _limits(scene: Scene, alike: Similarity, points: Sequence[Point]) -> list[Limit]:
    told = [(p, scene.margins(p.oid)) for p in points[-effects.MOST :]]
    found = []
    for name in sorted({name for _, each in told for name in each}):
        at = [(p.values, each[name]) for p, each in told if name in each]
        means = [fmean(left) for _, left in at]
        if min(means) > FAR:
            continue
        noise, level = pooled(left for _, left in at).sd or FAINT, fmean(means)
        scale = max(median(abs(mean - level) for mean in means), 3 * noise)
        noises = [noise / math.sqrt(len(left)) for _, left in at]
        found.append(Limit(Effects(alike, [values for values, _ in at], means, scale, noises), noise))
    return found


def _failures(scene: Scene, alike: Similarity, points: Sequence[Point], fine: Sequence[Point]) -> Effects | None:
    broken = [p for p in points if barred(scene, p)][-effects.MOST // 2 :]
    fine = [p for p in fine if not barred(scene, p)][-effects.MOST // 2 :]
    labels = [1.0] * len(broken) + [0.0] * len(fine)
    return Effects(alike, [p.values for p in [*broken, *fine]], labels, 0.3, [0.2] * len(labels)) if broken else None


def _latest(measured: Sequence[tuple[Point, float]]) -> list[tuple[Point, float]]:
    """The best and the newest, as many as a fit can take."""
    if len(measured) <= effects.MOST:
        return list(measured)
    best = sorted(range(len(measured)), key=lambda i: -measured[i][1])[: effects.MOST // 3]
    newest = range(len(measured) - effects.MOST + len(best), len(measured))
    return [measured[i] for i in sorted({*best, *newest})]
