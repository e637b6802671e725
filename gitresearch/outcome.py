"""An outcome: what the evaluator found for one trial, as the TOML document in its git note.

The first line is a comment for people reading `git log`. The head (the scalars up to the first table) is what lineage
needs of every trial; it is printed in one fixed order, so that `Summary.parse` reads it with one regular expression:
a TOML parser costs 100 µs a note, this costs 4, and a study may hold 100,000. What the expression does not match goes
through the TOML parser; what that refuses is a FormatError, never a guess. Numbers must be finite.
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import tomli
import tomli_w

from gitresearch.errors import FormatError
from gitresearch.text import is_safe, one_line, plural, printable

SCHEMA = 1
MAX_NOTE_BYTES = 64 * 1024

# What each status means stands in docs/architecture.md; the order is the order of display.
STATUSES = (
    "baseline",
    "keep",
    "discard",
    "disqualified",
    "crash",
    "preflight_crash",
    "size_blocked",
    "train_budget_overrun",
    "eval_budget_overrun",
    "early_stop",
    "resource_limit",
    "invalid",
    "harness_abort",
)
MEASURED = frozenset({"baseline", "keep", "discard", "disqualified"})  # these carry a score
EARLY_STOP = "early_stop"  # ended by what its own progress foretold: no score, and no failure either
FAILED = frozenset(STATUSES) - MEASURED - {EARLY_STOP}
# What a study may be scored by of a run: no hook reports it, the evaluator measures it.
RELATIVE = "relative_seconds"  # those of a run over those of the unchanged recipe beside it
TIMES = frozenset({"train_seconds", "total_seconds", RELATIVE})  # of these, what a run can't take back once it is spent
OWN_METRICS = TIMES | {"eval_seconds", "artefact_bytes", "peak_memory_bytes"}
REPRODUCE = "reproduce"  # a witness's runs, which enter no score, verdict, claim or estimate of noise
DRIFT = "drift"  # the baseline once more, to see whether it moved: enters no score either
HOLDOUT = "holdout"  # scored on a second hidden split, which nothing is decided by: enters no score either
RIVAL = "rival"  # beside a claim's seeds, of what it is made against: enters the claim alone, and no score
PURPOSES = ("baseline", "screen", "head", "confirm", RIVAL, DRIFT, HOLDOUT, REPRODUCE)
WITNESS, REVOKED, UNCONFIRMED = "witness", "revoked", "unconfirmed"  # labels
_WHERE_TOLD = (
    "warmup_seconds", "saved_seconds", "saved_by", "foretold", "projected_bytes", "smoke_seconds", "smoke_bytes",
    "smoke_memory_bytes", "parameters", "baseline_seconds", "of",
)  # fmt: skip
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def now() -> str:
    """The time as outcomes tell it: UTC, ISO 8601."""
    return utc(time.time())


def utc(seconds: float) -> str:
    """Seconds since 1970 in that form."""
    return datetime.fromtimestamp(seconds, UTC).strftime(_TIME)


def after(moment: str) -> str:
    """Now; a second after a moment that this clock has not reached: of two outcomes the earlier counts, and who came
    second must not be told as first."""
    try:
        told = datetime.strptime(moment, _TIME).replace(tzinfo=UTC) + timedelta(seconds=1)
    except (ValueError, OverflowError):
        return now()
    return max(now(), told.strftime(_TIME))


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a trial with one seed. Seconds are CPU or wall as the study's clock says; sizes are bytes."""

    seed: int
    purpose: str
    status: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_memory_bytes: int = 0
    artefact_bytes: int = 0
    started: str = ""
    warmup_seconds: float = 0.0  # before the task's clock; told where there were any
    saved_seconds: float = 0.0  # that ending it early spared, by an estimate; told with the reason where there were any
    saved_by: str = ""
    curve: tuple[float, ...] = ()  # what it said of itself in each tenth of its training; advice, and in no score
    projected_bytes: int = 0  # what the artefact was to weigh by the hook, else by the smoke run; 0: neither can tell
    foretold: float = 0.0  # the share of its training at which its curve foretold that it can't win; 0: it never did
    smoke_seconds: float = 0.0  # of the smoke run before it, told where there was one
    smoke_bytes: int = 0  # of the artefact that it left
    smoke_memory_bytes: int = 0  # at most, that it took
    parameters: int = 0  # of the model, by the hook before training; 0: it can't tell
    baseline_seconds: float = 0.0  # of the unchanged recipe beside it, where a study is scored by both
    of: str = ""  # the trial that ran, where it isn't the one whose outcome this stands in

    @property
    def total_seconds(self) -> float:
        """Training and predicting: a task scored by it leaves nothing to gain from doing one's work in the other."""
        return round(self.train_seconds + self.eval_seconds, 3)

    @property
    def relative_seconds(self) -> float:
        """All of its seconds over those of the unchanged recipe beside it; 0 where that did not run."""
        return round(self.total_seconds / self.baseline_seconds, 6) if self.baseline_seconds else 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a trial has no score: the phase it ended in, a label to group by, the log lines that show it."""

    phase: str
    label: str
    lines: tuple[str, ...] = ()


class Summary(NamedTuple):
    """An outcome's head: what lineage needs of every trial. (A tuple is made five times faster than a frozen class.)

    `score` is the mean of the study's metric over `n` runs and `sd` their standard deviation (0 for one run); a keep
    that has fresh runs is scored on those alone. `seconds` is wall time spent on all runs but a witness's. `at` is UTC,
    ISO 8601.
    """

    status: str
    metric: str
    score: float | None
    sd: float
    n: int
    confirmed: bool
    seconds: float
    at: str
    label: str
    reason: str

    @classmethod
    def parse(cls, note: bytes) -> "Summary":
        """The head of a note. FormatError where it is not one of ours."""
        return cls.scan(note.decode("latin-1"), 0, len(note))

    @classmethod
    def scan(cls, text: str, start: int, end: int) -> "Summary":
        """The head of the note `text[start:end]`: its bytes as Latin-1, a character a byte. FormatError where it is not
        one of ours."""
        match = _HEAD.match(text, start, end)
        if match is None:
            return Outcome.parse(text[start:end].encode("latin-1")).summary
        return cls.of(match.groups())

    @classmethod
    def of(cls, groups: tuple[Any, ...]) -> "Summary":
        """The head that HEAD matched. FormatError where it holds what no head may."""
        status, metric, score, sd, n, confirmed, seconds, at, label, reason = groups
        if status not in _STATUS_SET:
            raise FormatError(f"unknown status {status[:60]!r}")
        try:
            value, spread, took = float(score) if score else None, float(sd), float(seconds)
        except ValueError:
            raise FormatError("the note's head holds a number that cannot be read") from None
        if not (math.isfinite(value or 0.0) and math.isfinite(spread) and math.isfinite(took)):
            raise FormatError("the note's head holds a number that is not finite")
        if not (metric.isascii() and label.isascii() and reason.isascii()):
            metric, label, reason = _utf8(metric), _utf8(label), _utf8(reason)
        return cls(
            _SHARED[status], _SHARED.setdefault(metric, metric), value, spread, int(n),
            confirmed == "true", took, at, label, reason,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """The whole note. `decision`, `environment` and `binding` are flat tables of scalars."""

    summary: Summary
    runs: tuple[Run, ...] = ()
    failure: Failure | None = None
    decision: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    binding: Mapping[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """The note's first line, for people: `keep  val_bpb 1.9731  −0.0301 vs head 2.0032  (1 seed, provisional)`."""
        head = self.summary
        parts = [head.status]
        if head.score is not None:
            parts.append(f"{head.metric} {head.score:.5g}")
            against = self.decision.get("reference")
            if isinstance(against, float) and head.status not in ("baseline",):
                parts.append(f"{signed(head.score - against)} vs {self.decision.get('against', 'head')} {against:.5g}")
            state = "" if head.status != "keep" else ", confirmed" if head.confirmed else ", provisional"
            parts.append(f"({plural(head.n, 'seed')}{state})")
        if head.reason:
            parts.append(head.reason)
        return "  ".join(one_line(part) for part in parts)

    def note(self) -> bytes:
        """The note's bytes; `Outcome.parse` reads them back to an equal value."""
        head = self.summary
        doc: dict[str, Any] = {"schema": SCHEMA, "status": head.status, "metric": head.metric}
        if head.score is not None:
            doc["score"] = head.score
        doc |= {"sd": head.sd, "n": head.n, "confirmed": head.confirmed, "seconds": head.seconds, "at": head.at}
        doc |= {"label": head.label, "reason": head.reason}
        for name in ("decision", "environment", "binding"):
            if table := getattr(self, name):
                doc[name] = dict(table)
        if self.failure:
            doc["failure"] = {
                "phase": self.failure.phase,
                "label": self.failure.label,
                "lines": list(self.failure.lines),
            }
        if self.runs:
            doc["runs"] = [_run_table(run) for run in self.runs]
        _refuse_nonfinite(doc)
        note = f"# {printable(self.headline)}\n{tomli_w.dumps(doc)}".encode()
        if len(note) > MAX_NOTE_BYTES:
            raise FormatError(f"an outcome must fit in {MAX_NOTE_BYTES} bytes, not {len(note)}")
        return note

    @classmethod
    def parse(cls, note: bytes) -> "Outcome":
        """The outcome in a note. FormatError where it is not one of ours or is broken."""
        if len(note) > MAX_NOTE_BYTES:
            raise FormatError(f"the note is longer than {MAX_NOTE_BYTES} bytes")
        try:
            doc = tomli.loads(note.decode("utf-8"))
            if doc.get("schema") != SCHEMA:
                raise FormatError(f"the note's schema is {doc.get('schema')!r}, this version reads {SCHEMA}")
            _refuse_nonfinite(doc)
            return cls(
                summary=_summary(doc),
                runs=tuple(_run(table) for table in doc.get("runs", [])),
                failure=_failure(doc["failure"]) if "failure" in doc else None,
                decision=_flat(doc.get("decision", {})),
                environment=_flat(doc.get("environment", {})),
                binding=_flat(doc.get("binding", {})),
            )
        except (tomli.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FormatError(f"the note is no TOML document of ours: {one_line(str(error), 120)}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"the note lacks or garbles {one_line(str(error), 120)}") from None


# tomli_w prints floats by repr, strings with \" and \\ escapes only where needed: anything escaped, and a control
# character that TOML forbids, falls to the parser.
_STRING = r'"([ !#-\[\]-~\x80-\xff]*)"'
_FLOAT = r"(-?[0-9][0-9.e+-]*)"
HEAD = (
    rf"#[^\n]*\nschema = 1\nstatus = \"([a-z_]+)\"\nmetric = {_STRING}\n(?:score = {_FLOAT}\n)?"
    rf"sd = {_FLOAT}\nn = ([0-9]{{1,6}})\nconfirmed = (true|false)\nseconds = {_FLOAT}\nat = \"([ !#-\[\]-~]*)\"\n"
    rf"label = {_STRING}\nreason = {_STRING}\n(?:\n|\Z)"
)
_HEAD = re.compile(HEAD)
_SHARED: dict[str, str] = {status: status for status in STATUSES}
_STATUS_SET = frozenset(STATUSES)


def summarise(status: str, metric: str, runs: Sequence[Run], at: str, **more: Any) -> Summary:
    """Fold runs into a head. Fresh runs (head, confirm) take the place of the screening run once there are any. Once a
    claim was made (`claimed`) its seeds alone count: those before it got the trial to be the head.

    The run that got a trial chosen is a lucky one by selection (winner's curse); it never enters the score again. Nor
    does a witness's, a rival's, one that looks for drift or is scored on the holdout, nor any run of an invalid
    outcome, which has no score.
    """
    stood_on = firsthand(runs)
    aside = (RIVAL, DRIFT, HOLDOUT)
    scored = [run for run in stood_on if metric in run.metrics and run.purpose not in aside and status != "invalid"]
    counted = ("confirm",) if more.get("claimed") else ("head", "confirm")
    fresh = [run for run in scored if run.purpose in counted]
    values = [run.metrics[metric] for run in fresh or scored]
    return Summary(
        status=status,
        metric=metric,
        score=mean(values) if values else None,
        sd=stdev(values),
        n=len(values) or len(stood_on),
        confirmed=bool(more.get("confirmed", False)),
        seconds=round(sum(run.wall_seconds for run in stood_on), 3),
        at=at,
        label=one_line(str(more.get("label", "")), 80),
        reason=one_line(str(more.get("reason", "")), 200),
    )


def precedence(head: Summary) -> tuple[str, float]:
    """Of several evaluators' outcomes of a trial the least counts: the earliest, and where one went on with another's
    runs (the claim of a keep that somebody else found), the one that holds more."""
    return head.at, -head.seconds


def firsthand(runs: Sequence[Run]) -> Sequence[Run]:
    """The runs that an outcome stands on: all but a witness's, unless it consists of those alone."""
    return [run for run in runs if run.purpose != REPRODUCE] or runs


def own(runs: Sequence[Run]) -> Sequence[Run]:
    """Those of them that are of the trial itself: a claim's rival ran beside it."""
    return [run for run in firsthand(runs) if run.purpose != RIVAL]


def is_witness(outcome: Outcome) -> bool:
    """Whether an outcome says only how another's looked when it was measured again."""
    return bool(outcome.runs) and all(run.purpose == REPRODUCE for run in outcome.runs)


def is_revoked(outcome: Outcome) -> bool:
    """Whether its evaluator took the outcome back."""
    return (outcome.summary.status, outcome.summary.label) == ("invalid", REVOKED)


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def stdev(values: Sequence[float]) -> float:
    """Sample standard deviation (n−1); 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    centre = mean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))


def signed(value: float) -> str:
    """A difference as people read it: `+0.0123` or `−0.0123`."""
    return f"{value:+.4g}".replace("-", "−")


def _utf8(text: str) -> str:
    """A string of the head, whose bytes were read as Latin-1."""
    try:
        found = text.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("the note's head is not UTF-8") from None
    if not is_safe(found):
        raise FormatError(f"the note's head holds a character that nobody sees: {printable(found)!r}")
    return found


def _run_table(run: Run) -> dict[str, Any]:
    table: dict[str, Any] = {"seed": run.seed, "purpose": run.purpose, "status": run.status}
    table |= {"train_seconds": run.train_seconds, "eval_seconds": run.eval_seconds, "wall_seconds": run.wall_seconds}
    table |= {"peak_memory_bytes": run.peak_memory_bytes, "artefact_bytes": run.artefact_bytes, "started": run.started}
    told = {name: getattr(run, name) for name in _WHERE_TOLD if getattr(run, name)}
    told |= {"curve": list(run.curve)} if run.curve else {}
    return table | told | {"metrics": dict(run.metrics)}


def _summary(doc: Mapping[str, Any]) -> Summary:
    if doc["status"] not in _STATUS_SET:
        raise FormatError(f"unknown status {str(doc['status'])[:60]!r}")
    score = doc.get("score")
    return Summary(
        status=_text(doc["status"]),
        metric=_text(doc["metric"]),
        score=None if score is None else _number(score),
        sd=_number(doc["sd"]),
        n=_integer(doc["n"]),
        confirmed=_boolean(doc["confirmed"]),
        seconds=_number(doc["seconds"]),
        at=_text(doc["at"]),
        label=_text(doc["label"]),
        reason=_text(doc["reason"]),
    )


def _run(table: Mapping[str, Any]) -> Run:
    if table["purpose"] not in PURPOSES or table["status"] not in (*STATUSES, "ok"):
        raise FormatError("a run of the note has an unknown purpose or status")
    return Run(
        seed=_integer(table["seed"]),
        purpose=table["purpose"],
        status=table["status"],
        metrics={_text(name): _number(value) for name, value in table["metrics"].items()},
        train_seconds=_number(table["train_seconds"]),
        eval_seconds=_number(table["eval_seconds"]),
        wall_seconds=_number(table["wall_seconds"]),
        peak_memory_bytes=_integer(table["peak_memory_bytes"]),
        artefact_bytes=_integer(table["artefact_bytes"]),
        started=_text(table["started"]),
        warmup_seconds=_number(table.get("warmup_seconds", 0.0)),
        saved_seconds=_number(table.get("saved_seconds", 0.0)),
        saved_by=_text(table.get("saved_by", "")),
        curve=tuple(_number(value) for value in table.get("curve", ())),
        projected_bytes=_integer(table.get("projected_bytes", 0)),
        foretold=_number(table.get("foretold", 0.0)),
        smoke_seconds=_number(table.get("smoke_seconds", 0.0)),
        smoke_bytes=_integer(table.get("smoke_bytes", 0)),
        smoke_memory_bytes=_integer(table.get("smoke_memory_bytes", 0)),
        parameters=_integer(table.get("parameters", 0)),
        baseline_seconds=_number(table.get("baseline_seconds", 0.0)),
        of=_oid(table.get("of", "")),
    )


def _failure(table: Mapping[str, Any]) -> Failure:
    return Failure(_text(table["phase"]), _text(table["label"]), tuple(_text(line) for line in table["lines"]))


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    for value in table.values():
        if not isinstance(value, (str, int, float, bool)):
            raise TypeError("a table with a value that is no scalar")
    return dict(table)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a string")
    return value


def _oid(value: Any) -> str:
    if value and not re.fullmatch("[0-9a-f]{40}", _text(value)):
        raise FormatError("a run of the note is of a trial that is none")
    return _text(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("a number")
    return float(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("an integer")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("a boolean")
    return value


def _refuse_nonfinite(value: Any) -> None:
    """TOML knows nan and inf; an outcome does not: comparisons with them decide wrongly without a sound. Nor does it
    hold a whole number beyond TOML's 64 bits, which no float may be compared with."""
    if isinstance(value, float) and not math.isfinite(value):
        raise FormatError("an outcome holds a number that is not finite")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise FormatError("an outcome holds a whole number of more than 64 bits")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        _refuse_nonfinite(item)
