"""What the store hands out: plain frozen values, so that no pygit2 object leaves the package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gitresearch.outcome import Outcome, Summary
from gitresearch.trial import Hypothesis, Trial


@dataclass(frozen=True, slots=True)
class File:
    """One entry of a commit's tree. `mode` is git's (0o100644 plain, 0o100755 executable, 0o120000 link, 0o160000
    submodule); `size` is in bytes, −1 where there is no blob to measure (a submodule)."""

    oid: str
    mode: int
    size: int


class Record(NamedTuple):
    """A trial and what is known about it. `summary` is None while it waits, or where its note can't be read: then
    `broken` says why. `evaluator` is the one whose outcome counts, empty where there is none."""

    trial: Trial
    summary: Summary | None = None
    broken: str = ""
    evaluator: str = ""


@dataclass(frozen=True, slots=True)
class Oddity:
    """A ref under `refs/heads/trial/` that is no trial, and why: reported, never raised and never hidden."""

    ref: str
    oid: str
    why: str


@dataclass(frozen=True, slots=True)
class NewTrial:
    """One trial to import. A parent is an oid, or the index of an earlier item of the same import. `time` is in seconds
    since 1970."""

    hypothesis: Hypothesis
    parents: Sequence[str | int]
    edits: Mapping[str, bytes | None]
    time: int
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """The process behind a claim, told apart from a later one with the same pid by its start time and boot."""

    host: str
    pid: int
    boot: str
    started: str
    token: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class ClaimInfo:
    """A lease as it stands in git. `expires` is in seconds since 1970; `live` is False once anybody may take it."""

    study: str
    trial: str
    owner: Owner
    expires: float
    purpose: str
    live: bool


@dataclass(frozen=True, slots=True)
class Start:
    """A run that was begun: the trial's oid, seed and purpose, when (seconds since 1970), and by which process."""

    trial: str
    seed: int
    purpose: str
    time: int
    owner: Owner
