"""What a lever may be set to: a range of numbers on a scale, or a few choices.

A range maps its values to [0, 1] (`place`) and back (`value`), so that a step of 0.1 is as big a move for a learning
rate as for a width. Ranges come from the recipe, in standard typing (`Annotated[float, "1e-4..3e-2 log"]`,
`Literal["gelu", "relu2"]`); where the recipe states none they are guessed around the value that is there:

* a float above 0: a quarter to four times it, on a log scale; close to 1 (a momentum) the same for what it lacks to 1;
* a whole number: half to twice it, in steps that keep it divisible much as it was;
* a truth value: both.

A recipe may also say when a lever does anything at all, by another of the same file, after its range or choices:
`Annotated[float, "0.8..0.98", "if OPTIMIZER == muon"]`; or `!= none`, `in adamw lion`, and `if RATE` alone: where that
is neither 0, False, None, empty nor "none". (Conditional parameters, as in Bergstra et al. 2011, NIPS 24.)
"""

import math
import re
from dataclasses import dataclass

from gitresearch.agents.offline.literals import Value, rounded

_NUMBER = r"[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d+)(?:[eE][-+]?\d+)?"
_CONDITION = re.compile(r"if\s+(\w+)(?:\s*(==|!=|\bin\b)\s*(\S.*))?\s*")
_MOST = 1e300  # an agent may write a whole number that no float holds
_OFF = ("0", "0.0", "False", "None", "", "none")
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})(?:\s+(log))?(?:\s+step\s+({_NUMBER}))?(?:\s+(log))?\s*")


@dataclass(frozen=True)
class Range:
    """Numbers from low to high. `scale` is linear, log, or complement: log in what the value lacks to 1."""

    low: float
    high: float
    scale: str = "linear"
    step: float = 0.0
    whole: bool = False
    stated: bool = False

    def place(self, value: Value) -> float:
        """Where a value lies, 0 at low and 1 at high; beyond them outside [0, 1]."""
        number = float(max(-_MOST, min(_MOST, value))) if isinstance(value, (int, float)) else self.low
        low, high = self._warp(self.low), self._warp(self.high)
        return (self._warp(number) - low) / (high - low) if high > low else 0.5

    def value(self, place: float) -> Value:
        """The value at a place, on the grid: whole where it is whole, else two significant digits."""
        low, high = self._warp(self.low), self._warp(self.high)
        number = self._unwarp(low + min(1.0, max(0.0, place)) * (high - low))
        if self.step:
            number = self.low + round((number - self.low) / self.step) * self.step
            number = min(number, self.low + math.floor((self.high - self.low) / self.step + 1e-9) * self.step)
        if self.whole:
            return round(number)
        if self.scale == "complement":
            return float(f"{1 - rounded(1 - number):.6g}")
        return min(self.high, max(self.low, rounded(number) if not self.step else float(f"{number:.9g}")))

    def nearest(self, value: Value) -> Value | None:
        """A value as it is written here; None where it lies outside."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return None
        return self.value(self.place(value))

    @property
    def size(self) -> int:
        """About how many values are worth telling apart."""
        if self.whole or self.step:
            return max(1, int((self.high - self.low) / (self.step or 1)) + 1)
        return 1000

    def _warp(self, number: float) -> float:
        if self.scale == "log":
            return math.log(max(number, 1e-300))
        return -math.log(max(1 - number, 1e-12)) if self.scale == "complement" else number

    def _unwarp(self, number: float) -> float:
        if self.scale == "log":
            return math.exp(number)
        return 1 - math.exp(-number) if self.scale == "complement" else number


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    options: tuple[Value, ...]

    @property
    def ordered(self) -> bool:
        """Whether the options are numbers, so that some lie between others."""
        return len(self.options) > 2 and all(type(option) in (int, float) for option in self.options)

    def place(self, value: Value) -> float:
        """Where a value lies among the options, in their order; the middle for one that is none of them."""
        same = [i for i, option in enumerate(self.options) if option == value and type(option) is type(value)]
        return same[0] / max(1, len(self.options) - 1) if same else 0.5

    def nearest(self, value: Value) -> Value | None:
        """The option that is this value; None where there is none."""
        same = (
            option for option in self.options if option == value and isinstance(option, bool) == isinstance(value, bool)
        )
        return next(same, None)

    @property
    def size(self) -> int:
        return len(self.options)


Domain = Range | Choice


@dataclass(frozen=True)
class Condition:
    """That another lever of the file is one of these, or is none of them."""

    name: str
    options: tuple[str, ...]
    among: bool = True

    def holds(self, value: Value) -> bool:
        return any(_same(value, option) for option in self.options) == self.among


def _same(value: Value, option: str) -> bool:
    """Whether a lever's value is what a recipe writes: 1 and 1.0 are."""
    try:
        return str(value) == option or (type(value) in (int, float) and float(option) == value)
    except ValueError:
        return False


def condition(text: str) -> Condition | None:
    """What a recipe writes: `if RATE`, `if OPTIMIZER in adamw lion`. None where the text is no condition on a constant;
    ValueError where it is a broken one."""
    if not re.match(r"if\s+[A-Z][A-Z0-9_]*\b", text):
        return None
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ValueError(f"the condition {text!r} can't be read; write it like 'if OPTIMIZER in adamw lion'")
    name, sign, options = match.groups()
    if sign is None:
        return Condition(name, _OFF, among=False)
    told = tuple(options.split()) if sign == "in" else (options.strip(),)
    return Condition(name, told, among=sign != "!=")


def stated(text: str, whole: bool) -> Range | None:
    """The range that a recipe writes: `1e-4..3e-2 log`, `16..256 step 16`. None where the text is no range at all;
    ValueError where it is a broken one."""
    if ".." not in text:
        return None
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ValueError(f"the range {text!r} can't be read; write it like '1e-4..3e-2 log' or '16..256 step 16'")
    low, high, step = (float(part.replace("_", "")) if part else 0.0 for part in (match[1], match[2], match[4]))
    log = bool(match[3] or match[5])
    if low >= high or (log and low <= 0) or step < 0:
        raise ValueError(f"the range {text!r} must rise, and start above 0 on a log scale")
    return Range(low, high, "log" if log else "linear", step, whole, stated=True)


def guessed(value: Value) -> Domain | None:
    """A domain around a value that states none; None where nothing sensible can be guessed."""
    if isinstance(value, bool):
        return Choice((False, True))
    if isinstance(value, int):
        return _around_whole(value)
    if isinstance(value, float) and math.isfinite(value) and value >= 0:
        return _around(value)
    return None


def _around_whole(value: int) -> Range | None:
    if value < 1:
        return None
    low, high = max(1, value // 2), value * 2
    # 64 moves by 16, 12 by 2: head counts must divide widths, and tensor cores want multiples.
    step = max(1, min(value & -value, 1 << max(0, (value // 4).bit_length() - 1)))
    low += -low % step
    return Range(low, high, "log" if high >= 8 else "linear", step, whole=True)


def _around(value: float) -> Domain:
    if value == 0.0:
        return Choice((0.0, 0.01, 0.1))  # a switched-off penalty: its scale can't be guessed from the code
    if 0.5 < value < 1:
        lack = 1 - value
        return Range(max(0.0, 1 - 4 * lack), 1 - lack / 4, "complement")
    high = min(4 * value, (1 + value) / 2) if value < 1 else 4 * value
    return Range(value / 4, high, "log")
