"""What the settings do to a number, learned from the lineage: a Gaussian process adding up one curve a lever.

Rasmussen and Williams 2006, chapter 2; additive kernels as in Duvenaud et al. 2011. Adding curves up is what makes a
few dozen trials say something about dozens of levers: a trial of one lever teaches about that lever whatever the others
were set to. How much of the whole is each lever's is learned too, by variance components (Zhou et al. 2019): few levers
matter, and one that does must not be drawn in by fifty that don't.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from gitresearch.agents.offline.domain import Choice, Domain
from gitresearch.agents.offline.history import Values
from gitresearch.agents.offline.levers import Lever
from gitresearch.agents.offline.literals import Value

Array = npt.NDArray[np.float64]

MOST = 120  # points a fit looks at
LENGTH = 0.4  # of the whole range, over which a curve bends
OUTSIDE = (-0.5, 1.5)  # places that values beyond their range are taken to have at most: agents may write any number
OTHER = 0.3  # how alike two options of a choice are
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
LINEAR = 0.5  # share of a curve that is a straight slope
PRIOR = 1.0  # how firmly a lever's variance is held to be the usual one: as by so many effects that were seen
ROUNDS = 12  # of learning them
_JITTER = 1e-6


class Similarity:
    """How alike two settings are, by lever: 1 for equal values, falling with their distance. Settings must not change:
    several fits look at the same ones, so each is read once."""

    def __init__(self, levers: Mapping[str, Lever]) -> None:
        named = {key: lever.domain.options for key, lever in levers.items() if _named(lever.domain)}
        self._numbers = {key: lever.domain for key, lever in levers.items() if key not in named}
        self._codes = {key: {_name(one): i for i, one in enumerate(options)} for key, options in named.items()}
        self._read: dict[int, tuple[Values, Array, Array]] = {}  # the settings too, so that no others get their number

    def read(self, settings: Sequence[Values]) -> tuple[Array, Array]:
        """Places (n, numbers) and options (n, choices) of n settings."""
        rows = [self._row(values) for values in settings]
        return np.array([row[1] for row in rows]), np.array([row[2] for row in rows])

    def _row(self, values: Values) -> tuple[Values, Array, Array]:
        if id(values) not in self._read:
            places = [one.place(values[key]) if key in values else 0.5 for key, one in self._numbers.items()]
            places = [min(OUTSIDE[1], max(OUTSIDE[0], place)) for place in places]
            options = [codes.get(_name(values[key]), -1) if key in values else -1 for key, codes in self._codes.items()]
            self._read[id(values)] = values, np.array(places, float), np.array(options, float)
        return self._read[id(values)]

    @staticmethod
    def between(a: tuple[Array, Array], b: tuple[Array, Array]) -> Array:
        """By pair and lever: (n, m, levers)."""
        left, right = a[0][:, None], b[0][None]
        bend = np.exp(-(((left - right) / LENGTH) ** 2) / 2)
        slope = 12 * (left - 0.5) * (right - 0.5)
        curves = (1 - LINEAR) * bend + LINEAR * slope
        choices = np.where(a[1][:, None] == b[1][None], 1.0, OTHER)
        return np.concatenate([curves, choices], axis=2)


class Effects:
    """Fitted to (settings, number) pairs; predicts the number and its standard deviation.

    `scale` is the effect that a lever is expected to have; the likeliest of a few around it is taken. `noise` is the
    standard deviation of each number. The common level may be anything.
    """

    def __init__(
        self,
        alike: Similarity,
        settings: Sequence[Values],
        numbers: Sequence[float],
        scale: float,
        noise: Sequence[float],
    ) -> None:
        self._alike, self._known = alike, alike.read(settings)
        self._level = sum(numbers) / len(numbers)
        pairs, centred = alike.between(self._known, self._known), np.array(numbers) - self._level
        spread = np.square(np.array(noise, float))
        self._shares = np.ones(pairs.shape[2])
        fits = [(_Fit(pairs @ self._shares, centred, scale * factor, spread), scale * factor) for factor in SCALES]
        fit, self.scale = max(fits, key=lambda one: one[0].likelihood)
        moved = np.ptp(pairs, axis=(0, 1)) > 0
        for _ in range(ROUNDS if moved.any() else 0):
            self._shares[moved] = _learned(fit, pairs[:, :, moved], self._shares[moved], self.scale)
            fit = _Fit(pairs @ self._shares, centred, self.scale, spread)
        self._fit = fit

    def predict(self, values: Values) -> tuple[float, float]:
        """The expected number and its standard deviation."""
        here = self._alike.read([values])
        column = self.scale**2 * (self._alike.between(self._known, here)[:, 0] @ self._shares)
        own = self.scale**2 * float(self._alike.between(here, here)[0, 0] @ self._shares)
        variance = own - float(column @ self._fit.inverse @ column)
        return self._level + float(column @ self._fit.weights), math.sqrt(max(variance, 0.0))


class _Fit:
    """Log marginal likelihood, inverse covariance and weights (Rasmussen and Williams 2006, algorithm 2.1)."""

    def __init__(self, alike: Array, numbers: Array, scale: float, spread: Array) -> None:
        covariance = scale**2 * alike + np.diag(spread)
        covariance += _JITTER * np.trace(covariance) / len(alike) * np.eye(len(alike))
        root = np.linalg.cholesky(covariance)
        self.inverse: Array = np.linalg.inv(covariance).astype(np.float64)
        self.weights: Array = self.inverse @ numbers
        self.likelihood = -float(numbers @ self.weights) / 2 - float(np.log(np.diag(root)).sum())


def _learned(fit: _Fit, pairs: Array, shares: Array, scale: float) -> Array:
    """A round of the MM algorithm for variance components (Zhou, Hu, Zhou and Lange 2019), with a prior whose mode is
    1: a share grows where the numbers say more of the lever than it allows them to."""
    told = scale**2 * np.einsum("i,ijk,j->k", fit.weights, pairs, fit.weights)
    allowed = scale**2 * np.einsum("ij,ijk->k", fit.inverse, pairs)
    found: Array = shares * np.sqrt((np.maximum(told, 0) + 2 * PRIOR / shares**2) / (allowed + 2 * PRIOR / shares))
    return found


def _named(domain: Domain) -> TypeGuard[Choice]:
    return isinstance(domain, Choice) and not domain.ordered


def _name(option: Value) -> str:
    """1 and True are two options."""
    return f"{type(option).__name__} {option}"
