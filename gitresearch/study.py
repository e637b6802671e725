"""`study.toml` -> a frozen `Study`: the question, how it is measured, who may edit what, and when to stop.

A study is read from its base commit, never from a trial's tree, so a trial can't change its own ruler. Every mistake in
the file is an error that names the line; an unknown key names the nearest known one.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from gitresearch.asking import Agent, Price, words
from gitresearch.errors import GitResearchError
from gitresearch.outcome import OWN_METRICS, RELATIVE
from gitresearch.tables import TableError, Wrong, choice, read, require
from gitresearch.text import one_line
from gitresearch.trial import NAME

STUDY_FILE = "study.toml"
SIGNERS_FILE = "allowed_signers"  # beside it, in the form of ssh-keygen(1)
_DIRECTIONS = ("min", "max")
_CLOCKS = ("cpu", "wall")
_ROSTER = re.compile(r"specialists|generalist|generics(?::([1-9][0-9]?))?")
# CPU seconds can't be spent faster than one a second and core; four times that is a process that mostly waits.
WALL_FACTOR, WALL_GRACE = 4.0, 30.0
ACCELERATOR_WAIT = 600.0  # how long a run waits for an accelerator that somebody else is on
TALK_FACTOR = 5.0  # of the evaluation's budget: the hook waits longer than its predictor may run
ANYTHING = "You improve the recipe by any change that you believe in, wherever in your surface it lies."


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
        require("train", bool(words("train", self.train)), "names the command that trains, such as 'python train.py'")
        words("predict", self.predict)
        require("root", _is_relative(self.root), "is a folder inside the repository, such as '.' or 'recipes/mine'")


@dataclass(frozen=True)
class Objective:
    """The one primary metric and the direction that is better: `min` or `max`."""

    metric: str
    direction: str = "min"

    def check(self) -> None:
        require("metric", bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]{0,63}", self.metric)), "is a plain name")
        choice("direction", self.direction, _DIRECTIONS)

    def better(self, a: float, b: float) -> bool:
        """Whether score a is strictly better than score b."""
        return a < b if self.direction == "min" else a > b

    def gain(self, score: float, reference: float) -> float:
        """How much better score is than reference, in the metric's units; positive is better."""
        return reference - score if self.direction == "min" else score - reference


@dataclass(frozen=True)
class Gate:
    """A bound on another metric that a trial must meet to count at all: on the mean over its runs, or on `each`."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    each: bool = False

    def check(self) -> None:
        one_bound = (self.at_least is None) != (self.at_most is None)
        require("at_least", one_bound, "and at_most: give exactly one of them")

    def passes(self, value: float) -> bool:
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)

    @property
    def limit(self) -> float:
        """The bound itself."""
        return self.at_least if self.at_least is not None else self.at_most or 0.0

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
    warmup_seconds: float = 0.0  # before the real data is there and the clock starts; 0: it is there from the start
    smoke_seconds: float = 0.0  # for each part of the smoke run before a trial's first run; 0: there is none
    artefact_bytes: int = 0  # 0: no cap
    accelerator: bool = False  # a run needs one: said before the first where the machine has none
    accelerator_mb: int = 0  # and so much memory on each: said before the first where one has less; 0: nothing is asked
    memory_mb: int = 8_000
    disk_mb: int = 2_000
    log_mb: int = 16
    processes: int = 256
    open_files: int = 4096  # of each process

    def check(self) -> None:
        choice("clock", self.clock, _CLOCKS)
        for name in ("train_seconds", "eval_seconds", "memory_mb", "disk_mb", "log_mb", "processes", "open_files"):
            require(name, getattr(self, name) > 0, "must be more than 0")
        for name in ("artefact_bytes", "warmup_seconds", "accelerator_mb"):
            require(name, getattr(self, name) >= 0, "must not be negative")
        require("accelerator_mb", self.accelerator or not self.accelerator_mb, "goes with accelerator = true")
        within = 0 <= self.smoke_seconds < self.train_seconds
        require("smoke_seconds", within, "must be 0 or more, and less than train_seconds")


@dataclass(frozen=True)
class StudyBudget:
    """When `run` stops by itself; 0 is no limit. `stall_trials`: so many trials in a row without a keep."""

    trials: int = 0
    hours: float = 0.0
    dollars: float = 0.0
    tokens: int = 0  # in and out
    stall_trials: int = 0

    def check(self) -> None:
        for item in fields(self):
            require(item.name, getattr(self, item.name) >= 0, "must not be negative")


@dataclass(frozen=True)
class Seeds:
    """How many seeds each purpose takes: calibration, first look, the head's fresh runs, a claim's confirmation; and up
    to how many fresh runs a trial gets that only a gate's bound holds back (no more than `head`: none for that).

    `holdout` is how many more runs the baseline, and each trial whose claim was confirmed, get that are scored on a
    second hidden split: nothing is decided by it, and no agent hears of it; 0: none.
    """

    baseline: int = 5
    screen: int = 1
    head: int = 2
    confirm: int = 5
    gate: int = 5
    holdout: int = 0

    def check(self) -> None:
        for name, least in (("baseline", 2), ("screen", 1), ("head", 1), ("confirm", 2), ("gate", 0), ("holdout", 0)):
            require(name, least <= getattr(self, name) <= 1000, f"must be {least} to 1000")


@dataclass(frozen=True)
class Decision:
    """`two-tier` screens greedily and claims strictly; `alpha` is spent over the study, `every` keeps are one claim.

    `stall` trials in a row without a keep are reason for a claim too (0: never): a head that is there by luck holds up
    whatever is better than it truly is, and the claim's fresh seeds tell.

    `gate_alpha` is how often a trial that truly lies at a gate's limit may pass it (the field asks for 1 to 5 %; 5, for
    a claim looks at the gate again); at 0.5 the mean itself counts, where that is the task's rule. `stop_alpha` is how
    often seeds may end early though the trial is as good as what it is compared with; 0: they never do. Every
    `drift_every` trials the baseline runs again, to see whether it moved; 0: never. With `interleave` each of a claim's
    seeds follows a run of what it is claimed against, for scores that move with the machine, as seconds do.
    `curve_alpha` is for recipes that report their progress in the metric's units: how many of all first runs may be
    stopped by their curve although they would have won; 0: none is stopped.
    """

    rule: str = "two-tier"
    alpha: float = 0.05
    every: int = 4
    stall: int = 10
    gate_alpha: float = 0.05
    stop_alpha: float = 0.05
    drift_every: int = 20
    interleave: bool = False
    curve_alpha: float = 0.0

    def check(self) -> None:
        choice("rule", self.rule, ("two-tier", "strict-improvement"))
        require("alpha", 0 < self.alpha < 1, "must lie between 0 and 1")
        require("gate_alpha", 0 < self.gate_alpha <= 0.5, "must be more than 0 and at most 0.5, the point mean")
        require("stop_alpha", 0 <= self.stop_alpha < 0.5, "must be 0 or more and less than 0.5")
        require("curve_alpha", 0 <= self.curve_alpha < 0.5, "must be 0 or more and less than 0.5")
        require("every", self.every >= 1, "must be at least 1")
        require("stall", self.stall >= 0, "must not be negative")
        require("drift_every", self.drift_every >= 0, "must not be negative")


@dataclass(frozen=True)
class Evaluator:
    """Who measures: a trusted hook from the base commit, or a pattern over what the recipe prints (self-reported)."""

    hook: str = ""
    pattern: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    hook_seconds: float = 600.0  # wall clock for one call of the hook, without the trial's own time

    def check(self) -> None:
        require("hook", bool(self.hook) != bool(self.pattern), "or pattern: give exactly one of them")
        require("hook", not self.hook or _is_relative(self.hook), "is a file inside the repository")
        try:
            groups = re.compile(self.pattern).groups if self.pattern else 1
        except re.error as error:
            raise Wrong("pattern", f"is no regular expression: {error}") from None
        require("pattern", groups == 1, "must have exactly one group, the metric's value")


@dataclass(frozen=True)
class Specialist:
    """A named role: its surface (path globs and `path::symbol`), its task, its model if not the agent's, and by the
    name of a constant the values that are worth trying before any others."""

    name: str
    surface: tuple[str, ...]
    role: str = ""
    model: str = ""
    hints: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def check(self) -> None:
        require("name", bool(NAME.fullmatch(self.name)), "must be lower-case letters, digits, '-' and '_'")
        require("surface", bool(self.surface), "lists at least one path or path::symbol")
        for pattern in self.surface:
            path, colons, symbol = pattern.partition("::")
            require("surface", _is_relative(path), f"holds {pattern!r}, which leaves the repository")
            plain = not path.startswith("./") and "//" not in path
            require("surface", plain, f"holds {pattern!r}, which no path matches: leave out './' and '//'")
            named = not colons or re.fullmatch(r"[^\W\d]\w*(?:\.[^\W\d]\w*)?", symbol)
            require("surface", bool(named), f"holds {pattern!r}, which names no function, class, method or assignment")
        for name, values in self.hints.items():
            plain = isinstance(values, list) and all(type(value) in (str, int, float, bool) for value in values)
            require("hints", plain and bool(values), f"must list values to try of {name}, like {name} = [1, 2]")


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
    prices: tuple[Price, ...] = ()  # the first that fits a model counts
    roster: str = "specialists"  # who proposes; also "generalist", "generics" or "generics:N", the paper's controls

    def check(self) -> None:
        require("name", bool(NAME.fullmatch(self.name)), "must be lower-case letters, digits, '-' and '_'")
        require("specialists", bool(self.specialists), "needs at least one [[specialists]] table")
        kinds = "must be specialists, generalist, generics or generics:N with N from 1 to 99"
        require("roster", bool(_ROSTER.fullmatch(self.roster)), kinds)
        names = [specialist.name for specialist in self.specialists]
        require("specialists", len(set(names)) == len(names), "must have different names")
        for name in names:
            require("specialists", name not in ("baseline", "operator"), f"can't be named {name!r}")
        shared = self.budget.clock == "cpu" or not self.relative
        require("budget.clock", shared, f"must be 'cpu' where {RELATIVE} is asked for: two share a core")
        printed = bool(self.evaluator.pattern) and self.objective.metric in OWN_METRICS
        require("objective.metric", not printed, "is the evaluator's to measure: use a hook, or print another name")
        for gate in self.gates if self.evaluator.pattern else ():
            measured = gate.metric == self.objective.metric
            require("gates", measured, f"asks for {gate.metric!r}, and a pattern measures one metric: use a hook")
        if self.seeds.holdout:
            require(
                "seeds.holdout", bool(self.evaluator.hook), "needs evaluator.hook: a pattern reads what a recipe prints"
            )
            claims = self.decision.rule == "two-tier"
            require("seeds.holdout", claims, "is for what a claim confirms, which decision.rule = 'two-tier' makes")
        for path in self.knowledge:
            require("knowledge", _is_relative(path), f"holds {path!r}, which leaves the repository")

    def specialist(self, name: str) -> Specialist:
        """The specialist of that name; the error names the nearest."""
        for specialist in self.specialists:
            if specialist.name == name:
                return specialist
        names = [specialist.name for specialist in self.specialists]
        near = difflib.get_close_matches(name, names, 1, 0.5)
        meant = f", did you mean {near[0]}?" if near else ""
        raise StudyError(f"study {self.name} has no specialist {name!r}{meant}", f"choose one of: {', '.join(names)}")

    def enrolled(self, roster: str = "") -> "Study":
        """The study with those who propose under its roster, or another: one generalist who may edit what anybody may,
        or so many generics, alike but for their names. StudyError where there is no such roster."""
        roster = roster or self.roster
        kind = _ROSTER.fullmatch(roster)
        if kind is None:
            rosters = "specialists, generalist, generics, generics:N (N from 1 to 99)"
            raise StudyError(f"there is no roster {one_line(roster, 60)!r}", f"choose one of: {rosters}")
        if roster == "specialists":
            return replace(self, roster=roster)
        surface = self.surface
        count = int(kind[1] or len(self.specialists))
        names = ["generalist"] if roster == "generalist" else [f"generic-{n}" for n in range(1, count + 1)]
        everybody = tuple(Specialist(name, surface, ANYTHING, hints=self.hints) for name in names)
        return replace(self, roster=roster, specialists=everybody)

    @property
    def hints(self) -> Mapping[str, Any]:
        """What is worth trying first, of everybody's constants."""
        found: dict[str, list[Any]] = {}
        for who in self.specialists:
            for name, values in who.hints.items():
                known = found.setdefault(name, [])
                known += [value for value in values if value not in known]
        return found

    @property
    def surface(self) -> tuple[str, ...]:
        """What anybody may edit."""
        return tuple(dict.fromkeys(pattern for who in self.specialists for pattern in who.surface))

    def price(self, model: str) -> Price | None:
        """What the model's tokens cost; None where nobody says."""
        return next((price for price in self.prices if fnmatchcase(model, price.model)), None)

    def dollars(self, model: str, tokens_in: int, tokens_cached: int, tokens_out: int) -> float:
        """What so many tokens of the model cost; 0 where its price is unknown."""
        price = self.price(model)
        return price.dollars(tokens_in, tokens_cached, tokens_out) if price else 0.0

    @property
    def longest_run(self) -> float:
        """Wall seconds that a run takes at most: training, three calls of the hook, the talk with the predictor;
        and where there is a smoke run before it, that; and where it shares a core, twice as long."""
        trains = self.budget.warmup_seconds + self.budget.train_seconds
        waits = WALL_FACTOR * trains + TALK_FACTOR * self.budget.eval_seconds + 3 * WALL_GRACE
        waits += ACCELERATOR_WAIT if self.budget.clock == "wall" else 0.0
        if self.budget.smoke_seconds:
            waits += (2 * WALL_FACTOR + TALK_FACTOR) * self.budget.smoke_seconds + 3 * WALL_GRACE
            waits += 2 * self.evaluator.hook_seconds
        waits += 3 * self.evaluator.hook_seconds
        return 2 * waits if self.relative else waits

    @property
    def relative(self) -> bool:
        """Whether the unchanged recipe runs beside each run."""
        return RELATIVE in (self.objective.metric, *(gate.metric for gate in self.gates))

    @property
    def trust(self) -> str:
        """How far a score of this study can be trusted (design: the evaluator owns the outcome)."""
        return "scored" if self.evaluator.hook else "self-reported"


def load(text: str, where: str = STUDY_FILE) -> Study:
    """The study in a file's text. StudyError names file, line, key and the mend."""
    try:
        return read(Study, text, where)
    except TableError as error:
        raise StudyError(error.message, error.hint) from None


def _is_relative(path: str) -> bool:
    return bool(path) and not path.startswith(("/", "~")) and ".." not in path.split("/") and "\\" not in path
