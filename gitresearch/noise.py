"""What seeds alone do: the spread over them, and the tails of Student's t and of chi squared, exact to 1e-10, which the
standard library lacks. Pure."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from gitresearch.outcome import mean


@dataclass(frozen=True)
class Spread:
    """A pooled standard deviation over groups of seeds, with its degrees of freedom."""

    sd: float
    df: int

    def joined(self, group: Sequence[float]) -> "Spread":
        """This and another group's."""
        return _spread(self.sd * self.sd * self.df + _squares(group), self.df + max(0, len(group) - 1))


def pooled(groups: Iterable[Sequence[float]]) -> Spread:
    """Pool the variance within groups: s² = ΣSS / Σ(n−1). sd 0 with df 0 where no group has two values."""
    known = [group for group in groups if len(group) > 1]
    return _spread(math.fsum(_squares(group) for group in known), sum(len(group) - 1 for group in known))


def _squares(group: Sequence[float]) -> float:
    centre = mean(group) if group else 0.0
    return math.fsum((value - centre) ** 2 for value in group)


def _spread(squares: float, df: int) -> Spread:
    return Spread(math.sqrt(squares / df) if df else 0.0, df)


def t_tail(t: float, df: int) -> float:
    """P(T > t) of Student's t with df degrees of freedom; 0.5·I_x(df/2, 1/2) with x = df/(df+t²), DLMF 8.17."""
    if df <= 0:
        return 1.0
    tail = 0.5 * _beta(df / 2, 0.5, df / (df + t * t))
    return tail if t > 0 else 1.0 - tail


@lru_cache(maxsize=4096)
def t_above(p: float, df: int) -> float:
    """The t with P(T > t) = p, for p below a half; infinite without degrees of freedom."""
    if df <= 0:
        return math.inf
    high = 1.0
    while t_tail(high, df) > p:
        high *= 2.0
    return _crossing(lambda t: t_tail(t, df) > p, 0.0, high)


def chi2_tail(x: float, df: int) -> float:
    """P(X > x) of chi squared: Q(a+1, z) = Q(a, z) + zᵃe⁻ᶻ/Γ(a+1) with z = x/2, up from Q(1/2, z) = erfc √z or
    Q(0, z) = 0. Abramowitz and Stegun 26.4.4, 26.4.5."""
    if x <= 0.0:
        return 1.0
    z = x / 2
    first = 0.5 if df % 2 else 0.0
    steps = (first + k for k in range(df // 2))
    terms = [math.exp(a * math.log(z) - z - math.lgamma(a + 1)) for a in steps]
    return math.fsum([math.erfc(math.sqrt(z)) if df % 2 else 0.0, *terms])


def sd_interval(sd: float, df: int, level: float = 0.9) -> tuple[float, float]:
    """Where σ lies, at a level, if an estimate of it with df degrees of freedom is sd: df·sd²/σ² is chi squared."""
    if df <= 0:
        return 0.0, math.inf
    low, high = (sd * math.sqrt(df / _chi2_above(p, df)) for p in ((1 - level) / 2, (1 + level) / 2))
    return low, high


def _chi2_above(p: float, df: int) -> float:
    high = 2.0 * df
    while chi2_tail(high, df) > p:
        high *= 2.0
    return _crossing(lambda x: chi2_tail(x, df) > p, 0.0, high)


def _crossing(before: Callable[[float], bool], low: float, high: float) -> float:
    """Where `before` ends, between low and high, by halving."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if before(middle) else (low, middle)
    return (low + high) / 2


def _beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function by its continued fraction (Lentz), good to 1e-12."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta(b, a, 1.0 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    ) / a  # fmt: skip
    tiny = 1e-300
    c, d = 1.0, 1.0 / max(1.0 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 300):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / (1.0 + numerator * d or tiny)
            c = 1.0 + numerator / c or tiny
            value *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return front * value
