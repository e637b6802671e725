"""What proposals cost, out of their notes: per specialist and per trial, with the turns that came to nothing.

Pure. A note is data from whoever pushed it: a figure that is no figure counts for nothing, and a note that can't be
read is counted as such.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import tomli

from gitresearch.agents import Usage
from gitresearch.lineage import Lineage

_WHOLE = {item.name for item in fields(Usage) if item.type is int}


@dataclass(frozen=True)
class Spent:
    """What proposals came to: those that became trials, those that failed, and their usage together."""

    trials: int = 0
    failed: int = 0
    usage: Usage = field(default_factory=Usage)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.trials + other.trials, self.failed + other.failed, self.usage + other.usage)


@dataclass
class Tally:
    """A study's spending by specialist, each trial's own usage by oid, and how many notes can't be read."""

    specialists: dict[str, Spent] = field(default_factory=dict)
    trials: dict[str, Usage] = field(default_factory=dict)
    unreadable: int = 0

    @property
    def total(self) -> Spent:
        return sum(self.specialists.values(), Spent())


def tally(notes: Mapping[str, bytes], study: str) -> Tally:
    """What the study's proposals cost; `notes` are by the oid that they are about."""
    found = Tally()
    for oid, data in notes.items():
        try:
            document = tomli.loads(data.decode("utf-8"))
            name, usage = document["specialist"], usage_of(document)
            if not isinstance(name, str):
                raise TypeError("no name")
        except (ValueError, KeyError, TypeError, RecursionError):
            found.unreadable += 1
            continue
        if document.get("study") == study:
            failed = bool(document.get("failed"))
            found.specialists[name] = found.specialists.get(name, Spent()) + Spent(int(not failed), int(failed), usage)
            if not failed:
                found.trials[oid] = usage
    return found


def confirmed_gains(lineage: Lineage) -> dict[str, float]:
    """Per specialist, what its steps on the way to the confirmed best gained over their parents, in the metric's units.

    They sum to the best's gain over the baseline as far as each step's parent has a score; a step back counts too.
    """
    gains: dict[str, float] = {}
    best = lineage.best
    for node in lineage.chain(best.trial.oid) if best else []:
        gain = lineage.depth_gain(node.trial.oid)
        if gain is not None:
            gains[node.trial.specialist] = gains.get(node.trial.specialist, 0.0) + gain
    return gains


def usage_of(document: Mapping[str, Any]) -> Usage:
    """The usage in a proposals note. KeyError or TypeError where there is none."""
    table = document["usage"]
    if not isinstance(table, dict):
        raise TypeError("no usage")
    return Usage(**{item.name: _figure(table.get(item.name), item.name in _WHOLE) for item in fields(Usage)})


def _figure(value: object, whole: bool) -> Any:
    right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not right or not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value < 1 << 53:
        return 0
    return value
