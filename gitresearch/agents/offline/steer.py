"""Which levers to turn, and to what.

Candidates are small changes to the parent: one to three of the specialist's levers, set to values that TPE suggests or
to any others. Each is judged by the expected improvement over the parent under the effects learned so far; the best
that was never tried becomes the trial. Levers nobody has moved are the most uncertain, so they are tried first and far.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from gitresearch.agents.offline import effects, tpe
from gitresearch.agents.offline.domain import Choice
from gitresearch.agents.offline.effects import Effects
from gitresearch.agents.offline.history import Point, Scene, Values
from gitresearch.agents.offline.levers import Lever
from gitresearch.agents.offline.literals import Value
from gitresearch.study import Objective

CANDIDATES = 60
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Move:
    """Levers and the values they get, with the gain that is expected of it (None: nothing is known)."""

    changes: Mapping[str, Value]
    gain: float | None = None
    sd: float = 0.0


@dataclass(frozen=True)
class Steer:
    """One choice to make: from where, and with what luck."""

    scene: Scene
    objective: Objective
    parent: str
    seed: int

    def moves(self) -> list[Move]:
        """Candidate moves, best first."""
        rng = random.Random(self.seed)  # noqa: S311  (a search, not a secret)
        learned = self._learned()
        pool = {tuple(sorted(move.items(), key=str)): move for move in self._pool(rng)}
        here = learned.predict(self.scene.here)[0] if learned else 0.0
        judged = []
        for move in pool.values():
            mean, sd = learned.predict({**self.scene.here, **move}) if learned else (0.0, 1.0)
            judged.append((expected_improvement(mean - here, sd), Move(move, mean - here if learned else None, sd)))
        judged.sort(key=lambda pair: -pair[0])
        return [move for _, move in judged]

    def _pool(self, rng: random.Random) -> list[dict[str, Value]]:
        scene = self.scene
        own = {key: scene.levers[key] for key in scene.own}
        good = tpe.suggest(own, self._tried(), 4, self.seed)
        out = []
        for i in range(CANDIDATES):
            count = rng.choices((1, 2, 3), (5, 3, 2))[0]
            keys = rng.sample(list(own), min(count, len(own)))
            values = rng.choice(good) if i % 2 else {key: anywhere(own[key], rng) for key in keys}
            move = {key: values[key] for key in keys if values[key] != scene.here[key]}
            if move:
                out.append(move)
        return out

    def _tried(self) -> list[tuple[Values, float | None]]:
        """Every trial's settings with its loss; a failure counts as worse than anything measured."""
        scores = [p.score for p in self.scene.points.values() if p.score is not None]
        sign = 1 if self.objective.direction == "min" else -1
        worst = max((sign * score for score in scores), default=0.0)
        out: list[tuple[Values, float | None]] = []
        for point in self.scene.points.values():
            failed = worst if point.node.failed else None
            out.append((point.values, failed if point.score is None else sign * point.score))
        return out

    def _learned(self) -> Effects | None:
        points = list(self.scene.points.values())
        base = self.scene.points[self.parent].score if self.parent in self.scene.points else None
        measured = [(p, self.objective.gain(p.score, base)) for p in points if p.score is not None and base is not None]
        if not measured:
            return None
        sizes = sorted(abs(gain) for _, gain in measured if gain)
        bad = -(sizes[len(sizes) * 3 // 4] if sizes else 0.0)
        pairs = [(p.values, gain) for p, gain in _latest(measured)]
        pairs += [(p.values, bad) for p in points if p.node.failed and p.node.status != "harness_abort"][-30:]
        noise = max((p.node.summary.sd for p in points if p.node.summary), default=0.0)
        noise = noise or abs(base or 0.0) * 1e-3
        return Effects(self.scene.levers, [v for v, _ in pairs], [g for _, g in pairs], noise)


def _latest(measured: Sequence[tuple[Point, float]]) -> list[tuple[Point, float]]:
    """The best and the newest, as many as a fit can take."""
    if len(measured) <= effects.MOST:
        return list(measured)
    best = sorted(measured, key=lambda pair: -pair[1])[: effects.MOST // 3]
    newest = measured[-(effects.MOST - len(best)) :]
    return [pair for pair in measured if pair in best or pair in newest]


def anywhere(lever: Lever, rng: random.Random) -> Value:
    """A value from all over the lever's domain."""
    if isinstance(lever.domain, Choice):
        return rng.choice([option for option in lever.domain.options if option != lever.value] or [lever.value])
    return lever.domain.value(rng.random())


def expected_improvement(mean: float, sd: float) -> float:
    """E[max(0, X)] for X normal (Jones et al. 1998)."""
    if sd <= 0:
        return max(mean, 0.0)
    z = mean / sd
    return mean * _NORMAL.cdf(z) + sd * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
