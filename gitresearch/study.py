"""`study.toml` -> a frozen `Study`: the question, how it is measured, who may edit what, and when to stop.

A study is read from its base commit, never from a trial's tree, so a trial can't change its own ruler. Every mistake in
the file is an error that names the line; an unknown key names the nearest known one.
"""

import difflib
import re
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import tomli

from gitresearch.errors import GitResearchError
from gitresearch.text import printable
from gitresearch.trial import NAME

STUDY_FILE = "study.toml"
AGENTS = ("offline", "openai", "command")
_DIRECTIONS = ("min", "max")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_CLOCKS = ("cpu", "wall")


class StudyError(GitResearchError):
    """A mistake in study.toml."""


@dataclass(frozen=True)
class Recipe:
    """The program under study. `root` is the folder a trial sees, relative to the repository; it is run there."""

    train: str
    root: str = "."
    predict: str = ""  # speaks to the evaluator hook on stdin and stdout; empty where the hook needs no predictions
    python: str = ""  # the interpreter for `python …` commands; empty: the one that runs gitresearch

    @property
    def folder(self) -> str:
        """The root as the store names folders: empty for the whole repository."""
        return "" if self.root == "." else self.root

    def check(self) -> None:
        _require("train", bool(_argv("train", self.train)), "names the command that trains, such as 'python train.py'")
        _argv("predict", self.predict)
        _require("root", _is_relative(self.root), "is a folder inside the repository, such as '.' or 'recipes/mine'")


@dataclass(frozen=True)
class Objective:
    """The one primary metric and the direction that is better: `min` or `max`."""

    metric: str
    direction: str = "min"

    def check(self) -> None:
        _require("metric", bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]{0,63}", self.metric)), "is a plain name")
        _choice("direction", self.direction, _DIRECTIONS)

    def better(self, a: float, b: float) -> bool:
        """Whether score a is strictly better than score b."""
        return a < b if self.direction == "min" else a > b

    def gain(self, score: float, reference: float) -> float:
        """How much better score is than reference, in the metric's units; positive is better."""
        return reference - score if self.direction == "min" else score - reference


@dataclass(frozen=True)
class Gate:
    """A bound on another metric that a trial must meet to count at all."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    def check(self) -> None:
        one_bound = (self.at_least is None) != (self.at_most is None)
        _require("at_least", one_bound, "and at_most: give exactly one of them")

    def passes(self, value: float) -> bool:
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)

    def __str__(self) -> str:
        return (
            f"{self.metric} ≥ {self.at_least:g}" if self.at_least is not None else f"{self.metric} ≤ {self.at_most:g}"
        )


@dataclass(frozen=True)
class Budget:
    """Limits of one run. `clock = "cpu"` counts CPU seconds (shared cores), `"wall"` an accelerator held alone."""

    train_seconds: float = 600.0
    eval_seconds: float = 600.0
    clock: str = "cpu"
    artefact_bytes: int = 0  # 0: no cap
    memory_mb: int = 8_000
    disk_mb: int = 2_000
    log_mb: int = 16
    processes: int = 256

    def check(self) -> None:
        _choice("clock", self.clock, _CLOCKS)
        for name in ("train_seconds", "eval_seconds", "memory_mb", "disk_mb", "log_mb", "processes"):
            _require(name, getattr(self, name) > 0, "must be more than 0")
        _require("artefact_bytes", self.artefact_bytes >= 0, "must not be negative")


@dataclass(frozen=True)
class StudyBudget:
    """When `run` stops by itself; 0 is no limit. `stall_trials`: so many trials in a row without a keep."""

    trials: int = 0
    hours: float = 0.0
    dollars: float = 0.0
    stall_trials: int = 0

    def check(self) -> None:
        for item in fields(self):
            _require(item.name, getattr(self, item.name) >= 0, "must not be negative")


@dataclass(frozen=True)
class Seeds:
    """How many seeds each purpose takes: calibration, first look, the head's fresh runs, a claim's confirmation."""

    baseline: int = 5
    screen: int = 1
    head: int = 2
    confirm: int = 5

    def check(self) -> None:
        for name, least in (("baseline", 2), ("screen", 1), ("head", 1), ("confirm", 2)):
            _require(name, least <= getattr(self, name) <= 1000, f"must be {least} to 1000")


@dataclass(frozen=True)
class Decision:
    """`two-tier` screens greedily and claims strictly; `alpha` is spent over the study, `every` keeps are one claim."""

    rule: str = "two-tier"
    alpha: float = 0.05
    every: int = 4

    def check(self) -> None:
        _choice("rule", self.rule, ("two-tier", "strict-improvement"))
        _require("alpha", 0 < self.alpha < 1, "must lie between 0 and 1")
        _require("every", self.every >= 1, "must be at least 1")


@dataclass(frozen=True)
class Evaluator:
    """Who measures: a trusted hook from the base commit, or a pattern over what the recipe prints (self-reported)."""

    hook: str = ""
    pattern: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    hook_seconds: float = 600.0  # wall clock for one call of the hook, without the trial's own time

    def check(self) -> None:
        _require("hook", bool(self.hook) != bool(self.pattern), "or pattern: give exactly one of them")
        _require("hook", not self.hook or _is_relative(self.hook), "is a file inside the repository")
        try:
            groups = re.compile(self.pattern).groups if self.pattern else 1
        except re.error as error:
            raise _Wrong("pattern", f"is no regular expression: {error}") from None
        _require("pattern", groups == 1, "must have exactly one group, the metric's value")


@dataclass(frozen=True)
class Agent:
    """Who proposes. `base_url` is for `openai`; `command` is a known coding agent's name or any command line;
    `model` and `key_env` (the variable that holds the key) are for both."""

    kind: str = "offline"
    model: str = ""
    base_url: str = ""
    command: str = ""
    key_env: str = "OPENAI_API_KEY"
    max_tokens: int = 8_000
    timeout_seconds: float = 300.0
    temperature: float | None = None
    lineage: bool = True  # false: the control arm, whose agents see their parent's files and nothing of other trials
    dollars_per_million_in: float = 0.0
    dollars_per_million_out: float = 0.0
    seed: int = 0

    def check(self) -> None:
        _choice("kind", self.kind, AGENTS)
        _require("model", self.kind != "openai" or bool(self.model), "names the model the openai agent asks")
        _require("command", self.kind != "command" or bool(_argv("command", self.command)), "names the program to run")
        _require("max_tokens", self.max_tokens > 0, "must be more than 0")
        _require("timeout_seconds", self.timeout_seconds > 0, "must be more than 0")
        _require("key_env", bool(_VARIABLE.fullmatch(self.key_env)), "is the name of a variable, not the key itself")
        address = not self.base_url or re.fullmatch(r"https?://[^/\s@]+(?:/\S*)?", self.base_url)
        _require("base_url", bool(address), "begins with http:// or https:// and holds no password")
        for name in ("dollars_per_million_in", "dollars_per_million_out"):
            _require(name, getattr(self, name) >= 0, "must not be negative")

    def dollars(self, tokens_in: int, tokens_out: int) -> float:
        """What so many tokens cost."""
        return (tokens_in * self.dollars_per_million_in + tokens_out * self.dollars_per_million_out) / 1e6


@dataclass(frozen=True)
class Specialist:
    """A named role: its surface (path globs and `path::symbol`), its task, and its model if not the agent's."""

    name: str
    surface: tuple[str, ...]
    role: str = ""
    model: str = ""

    def check(self) -> None:
        _require("name", bool(NAME.fullmatch(self.name)), "must be lower-case letters, digits, '-' and '_'")
        _require("surface", bool(self.surface), "lists at least one path or path::symbol")
        for pattern in self.surface:
            path, colons, symbol = pattern.partition("::")
            _require("surface", _is_relative(path), f"holds {pattern!r}, which leaves the repository")
            plain = not path.startswith("./") and "//" not in path
            _require("surface", plain, f"holds {pattern!r}, which no path matches: leave out './' and '//'")
            named = not colons or re.fullmatch(r"[^\W\d]\w*(?:\.[^\W\d]\w*)?", symbol)
            _require("surface", bool(named), f"holds {pattern!r}, which names no function, class, method or assignment")


@dataclass(frozen=True)
class Study:
    """The whole file. Frozen: what a study is does not change while it runs."""

    name: str
    recipe: Recipe
    objective: Objective
    evaluator: Evaluator
    specialists: tuple[Specialist, ...]
    question: str = ""
    gates: tuple[Gate, ...] = ()
    budget: Budget = field(default_factory=Budget)
    study_budget: StudyBudget = field(default_factory=StudyBudget)
    seeds: Seeds = field(default_factory=Seeds)
    decision: Decision = field(default_factory=Decision)
    agent: Agent = field(default_factory=Agent)
    knowledge: tuple[str, ...] = ()  # files a specialist is shown, relative to the repository

    def check(self) -> None:
        _require("name", bool(NAME.fullmatch(self.name)), "must be lower-case letters, digits, '-' and '_'")
        _require("specialists", bool(self.specialists), "needs at least one [[specialists]] table")
        names = [specialist.name for specialist in self.specialists]
        _require("specialists", len(set(names)) == len(names), "must have different names")
        for name in names:
            _require("specialists", name not in ("baseline", "operator"), f"can't be named {name!r}")
        for gate in self.gates if self.evaluator.pattern else ():
            measured = gate.metric == self.objective.metric
            _require("gates", measured, f"asks for {gate.metric!r}, and a pattern measures one metric: use a hook")
        for path in self.knowledge:
            _require("knowledge", _is_relative(path), f"holds {path!r}, which leaves the repository")

    def specialist(self, name: str) -> Specialist:
        """The specialist of that name; the error names the nearest."""
        for specialist in self.specialists:
            if specialist.name == name:
                return specialist
        names = [specialist.name for specialist in self.specialists]
        near = difflib.get_close_matches(name, names, 1, 0.5)
        meant = f", did you mean {near[0]}?" if near else ""
        raise StudyError(f"study {self.name} has no specialist {name!r}{meant}", f"choose one of: {', '.join(names)}")

    @property
    def trust(self) -> str:
        """How far a score of this study can be trusted (design: the evaluator owns the outcome)."""
        return "scored" if self.evaluator.hook else "self-reported"


class _Wrong(Exception):
    """A mistake at one key of the table being read."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(what)
        self.key, self.what = key, what


def load(text: str, where: str = STUDY_FILE) -> Study:
    """The study in a file's text. StudyError names file, line, key and the mend."""
    hint = f"edit {where}"
    try:
        doc = tomli.loads(text)
    except (tomli.TOMLDecodeError, RecursionError) as error:
        raise StudyError(f"{where} is no TOML: {error}", hint) from None
    try:
        study: Study = _build(Study, doc, ())
    except _Located as error:
        line = _line(text, error.path)
        at = f"{where}:{line}" if line else where
        raise StudyError(f"{at}: {error}", hint) from None
    return study


class _Located(Exception):
    def __init__(self, path: tuple[str, ...], what: str) -> None:
        super().__init__(printable(f"{'.'.join(p for p in path if not p.isdigit())[:200]} {what}"))
        self.path = path


def _build(cls: type, table: Any, path: tuple[str, ...]) -> Any:
    """A dataclass from a TOML table, checked key by key."""
    if not isinstance(table, dict):
        raise _Located(path, "must be a table")
    known = {item.name: item for item in fields(cls)}
    hints = get_type_hints(cls)
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.4)
            meant = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known)}"
            raise _Located((*path, key), f"is an unknown key{meant}")
    values = {}
    for name, item in known.items():
        if name in table:
            values[name] = _convert(hints[name], table[name], (*path, name))
        elif item.default is MISSING and item.default_factory is MISSING:
            raise _Located((*path, name), "is missing")
    built = cls(**values)
    try:
        built.check()
    except _Wrong as wrong:
        raise _Located((*path, wrong.key), wrong.what) from None
    return built


def _convert(kind: Any, value: Any, path: tuple[str, ...]) -> Any:
    if get_origin(kind) is UnionType:
        kind = next(option for option in get_args(kind) if option is not type(None))
    if hasattr(kind, "__dataclass_fields__"):
        return _build(kind, value, path)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _Located(path, "must be a list")
        return tuple(_convert(get_args(kind)[0], entry, (*path, str(i))) for i, entry in enumerate(value))
    if get_origin(kind) is Mapping:
        if not isinstance(value, dict):
            raise _Located(path, "must be a table")
        return dict(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        words = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
        raise _Located(path, f"must be {words[kind]}, not {value!r}")
    if kind is float and not abs(value) < float("inf"):
        raise _Located(path, "must be finite")
    return value


def _line(text: str, path: tuple[str, ...]) -> int:
    """The line (from 1) of a dotted key in the file; the table's line, or 0, where the key itself is not there.

    TOML parsers keep no positions; this reads headers and keys the way people write them, good enough to point at.
    """
    header: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    best = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if match := re.match(r"(\[\[?)\s*([\w.\"-]+)\s*\]", line):
            header = tuple(part.strip('"') for part in match[2].split("."))
            if match[1] == "[[":
                counts[match[2]] = counts.get(match[2], -1) + 1
                header = (*header, str(counts[match[2]]))
            if header == path[: len(header)]:
                best = number
            if header[: len(path)] == path:
                return number
        elif match := re.match(r"([\w\"-]+(?:\.[\w\"-]+)*)\s*=", line):
            key = (*header, *(part.strip('"') for part in match[1].split(".")))
            if key == path[: len(key)]:
                return number
    return best


def _require(key: str, holds: bool, what: str) -> None:
    if not holds:
        raise _Wrong(key, what)


def _choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        near = difflib.get_close_matches(value, choices, 1, 0.4)
        meant = f", did you mean {near[0]!r}?" if near else ""
        raise _Wrong(key, f"must be one of {', '.join(choices)}, not {value!r}{meant}")


def _argv(key: str, command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise _Wrong(key, f"can't be split into words: {error}") from None


def _is_relative(path: str) -> bool:
    return bool(path) and not path.startswith(("/", "~")) and ".." not in path.split("/") and "\\" not in path
