"""Numbers as source text, in both directions: written the way the code around them writes theirs.

What `written` prints, Python reads back to an equal value: a lever that came back as another number would make the
history lie. `2e-3` stays in powers of ten, `65_536` keeps its underscores.
"""

import ast
import math
from decimal import Decimal
from functools import lru_cache

Value = bool | int | float | str | None


@lru_cache(maxsize=4096)
def read(text: str) -> Value:
    """The value of a literal; ValueError where it is none that a lever can hold."""
    value = ast.literal_eval(text.strip())
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{text[:40]!r} is no number, text or truth value")


def written(value: Value, like: str) -> str:
    """The value as source, in the style of the literal it replaces."""
    if isinstance(value, float):
        return _float(value, like)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}" if "_" in like and abs(value) >= 1000 else str(value)
    if isinstance(value, str) and like[:1] == '"' and not {'"', "\\"} & set(value) and value.isprintable():
        return f'"{value}"'
    return repr(value)


def _float(value: float, like: str) -> str:
    """Powers of ten where the old literal had them or the number is far from 1; the shortest digits that round trip."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    if not isinstance(exponent, int) or value == 0.0:
        return repr(value)
    power = exponent + len(digits) - 1
    if "e" in like.lower() or not -5 < power < 6:
        mantissa = "".join(map(str, digits))
        tail = f".{mantissa[1:]}" if len(mantissa) > 1 else ""
        return f"{'-' if sign else ''}{mantissa[0]}{tail}e{power}"
    plain = f"{Decimal(repr(value)):f}"
    return plain if "." in plain else f"{plain}.0"


def rounded(value: float, digits: int = 2) -> float:
    """The nearest number with so many significant digits: 0.0021 says as much as 0.0020794 and reads better."""
    if value == 0.0 or not math.isfinite(value):
        return value
    return float(f"{value:.{digits - 1}e}")


def shown(value: Value) -> str:
    """A value as a person reads it in a sentence."""
    if isinstance(value, float):
        return _float(value, "") if abs(value) >= 1e-3 or value == 0.0 else _float(value, "e")
    return str(value)
