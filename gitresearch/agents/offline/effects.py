"""What the settings do to the score, learned from the lineage: a Gaussian process adding up one curve a lever.

Rasmussen and Williams 2006, chapter 2; additive kernels as in Duvenaud et al. 2011. Adding curves up is what makes a
few dozen trials say something about dozens of levers: a trial of one lever teaches about that lever whatever the others
were set to. Everything is plain Python: at most `MOST` points, so a fit costs a tenth of a second, and no library.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import mul

from gitresearch.agents.offline.domain import Choice
from gitresearch.agents.offline.history import Values
from gitresearch.agents.offline.levers import Lever
from gitresearch.agents.offline.literals import Value

MOST = 120  # points a fit looks at
LENGTH = 0.4  # of the whole range, over which a curve bends
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
LINEAR = 0.5  # share of a curve that is a straight slope
_JITTER = 1e-6


class Similarity:
    """How alike two settings are: 1 a lever for equal values, falling with their distance. Settings must not change:
    several fits look at the same pairs, so each is compared once."""

    def __init__(self, levers: Mapping[str, Lever]) -> None:
        self._alike = {key: _similarity(lever) for key, lever in levers.items()}
        self._known: dict[tuple[int, int], float] = {}
        self._held: dict[int, Values] = {}  # so that no other settings get the number of these

    def __call__(self, a: Values, b: Values) -> float:
        pair = (id(a), id(b))
        if pair not in self._known:
            self._held[id(a)], self._held[id(b)] = a, b
            self._known[pair] = self._compared(a, b)
        return self._known[pair]

    def _compared(self, a: Values, b: Values) -> float:
        total = 0.0
        for key, alike in self._alike.items():
            total += alike(a.get(key), b.get(key))
        return total


class Effects:
    """Fitted to (settings, number) pairs; predicts the number and its standard deviation.

    `scale` is the effect that a lever is expected to have; the likeliest of a few around it is taken. `noise` is the
    standard deviation of one measurement. `offset` lets the common level be anything.
    """

    def __init__(
        self, alike: Similarity, settings: Sequence[Values], numbers: Sequence[float], scale: float, noise: float
    ) -> None:
        self._alike, self._settings, self.noise = alike, list(settings), noise
        self._level = sum(numbers) / len(numbers)
        rows = [[alike(a, b) for b in self._settings[: i + 1]] for i, a in enumerate(self._settings)]
        centred = [number - self._level for number in numbers]
        _, self.scale, self._root, self._weights = max(
            (_fit(rows, centred, scale * factor, noise) for factor in SCALES), key=lambda fit: fit[0]
        )

    def predict(self, values: Values) -> tuple[float, float]:
        """The expected number and its standard deviation."""
        column = [self._alike(values, known) for known in self._settings]
        mean = sum(map(mul, column, self._weights))
        half = _forward(self._root, column)
        variance = self._alike(values, values) - sum(map(mul, half, half))
        return self._level + mean, math.sqrt(max(variance, 0.0)) * self.scale


def _fit(
    rows: list[list[float]], numbers: list[float], scale: float, noise: float
) -> tuple[float, float, list[list[float]], list[float]]:
    """Log marginal likelihood, scale, Cholesky root and weights (Rasmussen and Williams 2006, algorithm 2.1)."""
    variance = (noise / scale) ** 2 + _JITTER
    root = _cholesky([[*row[:-1], row[-1] + variance] for row in rows])
    half = _forward(root, numbers)
    likelihood = -sum(map(mul, half, half)) / 2 / scale**2 - sum(math.log(row[-1] * scale) for row in root)
    return likelihood, scale, root, _back(root, half)


def _similarity(lever: Lever) -> Callable[[object, object], float]:
    domain = lever.domain
    if isinstance(domain, Choice) and not domain.ordered:
        return lambda a, b: 1.0 if a == b else 0.3

    @cache
    def alike(a: Value, b: Value) -> float:
        left = 0.5 if a is None else domain.place(a)
        right = 0.5 if b is None else domain.place(b)
        bend = math.exp(-(((left - right) / LENGTH) ** 2) / 2)
        slope = 12 * (left - 0.5) * (right - 0.5)
        return (1 - LINEAR) * bend + LINEAR * slope

    return alike


def _cholesky(rows: list[list[float]]) -> list[list[float]]:
    """L with L·Lᵀ = rows (the lower triangle of a positive definite matrix)."""
    root: list[list[float]] = []
    for i, row in enumerate(rows):
        new: list[float] = []
        for j in range(i):
            new.append((row[j] - sum(map(mul, new, root[j]))) / root[j][j])
        new.append(math.sqrt(max(row[i] - sum(map(mul, new, new)), _JITTER)))
        root.append(new)
    return root


def _forward(root: list[list[float]], column: Sequence[float]) -> list[float]:
    out: list[float] = []
    for row, value in zip(root, column, strict=True):
        out.append((value - sum(map(mul, row, out))) / row[-1])
    return out


def _back(root: list[list[float]], column: Sequence[float]) -> list[float]:
    out = list(column)
    for i in range(len(root) - 1, -1, -1):
        out[i] /= root[i][i]
        for j in range(i):
            out[j] -= root[i][j] * out[i]
    return out
