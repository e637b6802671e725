"""What the settings do to the score, learned from the lineage: a Gaussian process adding up one curve a lever.

Rasmussen and Williams 2006, chapter 2; additive kernels as in Duvenaud et al. 2011. Adding curves up is what makes a
few dozen trials say something about dozens of levers: a trial of one lever teaches about that lever whatever the others
were set to. Everything is plain Python: at most `MOST` points, so a fit costs a tenth of a second, and no library.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import mul

from gitresearch.agents.offline.domain import Range
from gitresearch.agents.offline.history import Values
from gitresearch.agents.offline.levers import Lever

MOST = 120  # points a fit looks at
_LENGTH = 0.5  # of the whole range, over which a curve bends
_JITTER = 1e-6


class Effects:
    """Fitted to (settings, gain over a reference) pairs; predicts gain and its standard deviation."""

    def __init__(
        self, levers: Mapping[str, Lever], settings: Sequence[Values], gains: Sequence[float], noise: float
    ) -> None:
        self.similar = {key: _similarity(lever) for key, lever in levers.items()}
        self.scale = max(_spread(gains), noise, 1e-12)
        self.settings = list(settings)
        variance = (noise / self.scale) ** 2 + _JITTER
        rows = [[self.kernel(a, b) for b in self.settings[: i + 1]] for i, a in enumerate(self.settings)]
        for i, row in enumerate(rows):
            row[i] += variance
        self._root = _cholesky(rows)
        self._weights = _back(self._root, _forward(self._root, [gain / self.scale for gain in gains]))

    def kernel(self, a: Values, b: Values) -> float:
        """1 + Σ over levers of how alike their settings are, counted from how unlike: only differences cost time."""
        unlike = sum(1 - self.similar[key](a.get(key), b.get(key)) for key in self.similar if a.get(key) != b.get(key))
        return 1.0 + len(self.similar) - unlike

    def predict(self, values: Values) -> tuple[float, float]:
        """Expected gain over the reference, and its standard deviation."""
        column = [self.kernel(values, known) for known in self.settings]
        mean = sum(map(mul, column, self._weights))
        half = _forward(self._root, column)
        variance = self.kernel(values, values) - sum(map(mul, half, half))
        return mean * self.scale, math.sqrt(max(variance, 0.0)) * self.scale


def _similarity(lever: Lever) -> Callable[[object, object], float]:
    """1 for equal settings, falling with their distance; half for different choices."""
    domain = lever.domain
    if not isinstance(domain, Range):
        return lambda a, b: 1.0 if a == b else 0.0

    @cache
    def alike(a: float | None, b: float | None) -> float:
        apart = 0.5 if a is None or b is None else domain.place(a) - domain.place(b)
        return math.exp(-((apart / _LENGTH) ** 2) / 2)

    return alike


def _spread(gains: Sequence[float]) -> float:
    """The typical size of a gain or loss: a third of the levers' full effect is a fair prior for one lever."""
    sizes = sorted(abs(gain) for gain in gains)
    return sizes[len(sizes) // 2] if sizes else 0.0


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
