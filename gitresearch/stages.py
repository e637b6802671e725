"""The stages of a run: files out, preflight, train, measure, score; each puts what it finds into the job, or ends it.

The trial's code runs only in the sandbox, and the judge is the study's hook: labels and held-out data stay with it.
"""

import errno
import os
import re
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from gitresearch import failures, sandbox, smoke
from gitresearch.curves import Bar
from gitresearch.errors import FormatError, GitResearchError
from gitresearch.forecast import FORESEEN, Forecast
from gitresearch.handover import Handover
from gitresearch.hooks import Hook, HookFault, Scoring
from gitresearch.outcome import HOLDOUT, OWN_METRICS, Failure, Run
from gitresearch.sandbox import Channel, Ended, Gate, Limits, Process, Sandbox, World
from gitresearch.study import TALK_FACTOR, WALL_FACTOR, WALL_GRACE, Budget, Study
from gitresearch.trial import Trial

STOP_SECONDS = 0.1  # how long a stopped program takes to be gone
DATA, ARTEFACT = "/data", "/artefact"
# One thread a trial where CPU seconds count: with a busy neighbour two threads decode 40 times slower than one.
ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "RAYON_NUM_THREADS",
    )
} | {"TOKENIZERS_PARALLELISM": "false"}
NO_SPACE = 1 << 20  # with less room than this, whatever failed may have failed for it
# What the file system says to names that a trial chose; anything else that it says (no space) is no trial's fault.
_BAD_NAMES = (errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ)


class Source(Protocol):
    """What is needed of the store: files out of commits."""

    def export(self, commit: str, root: str, dest: Path) -> None: ...


@dataclass(frozen=True)
class Event:
    """Where a run is: for whoever watches. `used` and `budget` are seconds by the study's clock; `share` and `metric`
    are what its program says of itself, None where it says nothing."""

    trial: str
    run: str
    purpose: str
    phase: str
    used: float = 0.0
    budget: float = 0.0
    share: float | None = None
    metric: float | None = None


class Stopped(Exception):
    """A phase ended the run."""

    def __init__(self, status: str, failure: Failure) -> None:
        super().__init__(status)
        self.status, self.failure = status, failure


@dataclass
class Job:
    """One run under way: its folders, and what has been measured so far."""

    trial: Trial
    top: Path
    purpose: str
    seed: int
    cancel: threading.Event | None
    run: Run
    budget: Budget
    bar: Bar | None = None
    smoke: bool = False
    beside: bool = False  # of the unchanged recipe, at the same time as the trial's
    gate: Gate | None = None  # of a study that lets its trials warm up
    shown: Path | None = None  # the data folder that opens with it
    forecast: Forecast | None = None  # while it trains
    channel: Channel | None = None

    @property
    def name(self) -> str:
        """The run's, for whoever watches."""
        return (self.top.parent if self.smoke else self.top).name

    @property
    def tree(self) -> Path:
        return self.top / "tree"

    @property
    def artefact(self) -> Path:
        return self.top / "artefact"


class Stages:
    """What the stages of every run of a study share: its files, its hook, its sandbox and its data."""

    def __init__(
        self, source: Source, study: Study, base: str, box: Sandbox, cache: Path, on_event: Callable[[Event], None]
    ) -> None:
        self.source, self.study, self.base, self.box = source, study, base, box
        self.cache, self.on_event = cache, on_event
        self.data: dict[str, Path] = {}
        self.python = _interpreter(study.recipe.python)

    def _export(self, job: Job) -> None:
        """Bytes on disk are the bytes of the commit; a tree that can't be written safely ends here."""
        try:
            self.source.export(self.base if job.beside else job.trial.oid, self.study.recipe.folder, job.tree)
        except GitResearchError as error:
            if isinstance(error, FormatError) or getattr(error.__cause__, "errno", None) in _BAD_NAMES:
                raise Stopped("preflight_crash", Failure("preflight", "BadTree", (error.message,))) from None
            raise Stopped("harness_abort", Failure("harness", "Export", (error.message,))) from None
        job.artefact.mkdir(exist_ok=True)

    def _preflight(self, hook: Hook, tree: Path, cancel: threading.Event | None) -> dict[str, Any]:
        """The hook's reply where all is well."""
        reply = hook.call("preflight", {"tree": str(tree), "limits": limits_of(self.study.budget)}, cancel)
        if reply.get("ok") is True:
            return reply
        status, lines = reply.get("status"), reply.get("lines", [])
        if status not in ("preflight_crash", "size_blocked") or not isinstance(lines, list):
            raise HookFault("the hook's preflight said neither ok nor why not")
        told = tuple(failures.tidy(str(line)) for line in lines)
        raise Stopped(status, Failure("preflight", str(reply.get("label", status))[:80], told))

    def _take_sizes(self, job: Job, reply: Mapping[str, Any]) -> None:
        """Put on record what the hook reckons before training, and judge it by."""
        sizes = {name: reply.get(name, 0) for name in ("parameters", "projected_bytes")}
        for name, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 53:
                raise HookFault(f"the hook's preflight gave {name} that are no whole number")
        job.run = replace(job.run, **sizes)
        self._judge_size(job, "preflight")

    def _judge_size(self, job: Job, phase: str) -> None:
        """Stopped where past trials say that the bytes that are projected are too many."""
        if job.bar:
            why = job.bar.too_large(job.run.projected_bytes, self.study.budget.artefact_bytes)
            self._foretold(job, "size_blocked", Failure(phase, "foretold_too_large", (why,)))

    def _foretold(self, job: Job, status: str, failure: Failure) -> None:
        """Stopped, unless past trials say nothing (a failure without words) or this one is to go on all the same."""
        if job.bar and any(failure.lines):
            job.run = replace(job.run, foretold=job.bar.FROM_THE_START)
            if not job.bar.let_on:
                raise Stopped(status, failure)

    def _world(self, job: Job, *, training: bool) -> World:
        """Training sees the training data and writes the artefact; predicting sees the artefact and no data."""
        folders = {ARTEFACT: job.artefact}
        shown = {DATA: job.shown or self.data["train"]} if "train" in self.data else {}
        read_only, writable = (shown, folders) if training else (folders, {})
        gate, channel = (job.gate, job.channel) if training else (None, None)
        world = World(job.tree, read_only, writable, python=self.python, gate=gate, channel=channel)
        budget = self.study.budget
        env = {"GITRESEARCH_ARTEFACT": self.box.path(world, ARTEFACT), "GITRESEARCH_SEED": str(job.seed)}
        env |= {"GITRESEARCH_TRAIN_SECONDS": f"{budget.train_seconds:g}"}
        env |= {"GITRESEARCH_EVAL_SECONDS": f"{budget.eval_seconds:g}"}
        if training and shown:
            env["GITRESEARCH_DATA"] = self.box.path(world, DATA)
        if gate is not None:
            env |= {"GITRESEARCH_READY": str(gate.handle), "GITRESEARCH_WARMUP_SECONDS": f"{budget.warmup_seconds:g}"}
        if channel is not None:
            env["GITRESEARCH_PROGRESS"] = str(channel.handle)
        if job.smoke:
            env[smoke.VARIABLE] = "1"
        if budget.clock == "cpu":
            env |= ONE_THREAD
        return replace(world, env=env)

    def _run_limits(self, seconds: float) -> Limits:
        budget = self.study.budget
        cpu = budget.clock == "cpu"
        return Limits(
            wall_seconds=WALL_FACTOR * seconds + WALL_GRACE if cpu else seconds,
            cpu_seconds=seconds if cpu else None,
            memory_bytes=budget.memory_mb << 20,
            disk_bytes=budget.disk_mb << 20,
            log_bytes=budget.log_mb << 20,
            processes=budget.processes,
            open_files=budget.open_files,
        )

    def _argv(self, command: str) -> list[str]:
        argv = shlex.split(command)
        return [self.python, *argv[1:]] if argv[0] in ("python", "python3") else argv

    def _seconds(self, ended: Ended) -> float:
        return round(ended.cpu_seconds if self.study.budget.clock == "cpu" else ended.wall_seconds, 3)

    def _train(self, job: Job) -> bytes:
        """The training run's log; Stopped where it did not end well."""
        budget = job.budget.train_seconds
        self._tell(job, "train", 0.0, budget)
        job.forecast = Forecast(budget, job.bar)
        job.channel = Channel(job.forecast.hear)
        with job.channel.held(), self._gate(job):
            ended = sandbox.run(
                self.box, self._argv(self.study.recipe.train), self._world(job, training=True),
                self._run_limits(budget), job.cancel, lambda used: self._tell(job, "train", used, budget),
            )  # fmt: skip
        job.run = replace(
            job.run, train_seconds=self._seconds(ended), peak_memory_bytes=ended.peak_memory_bytes,
            warmup_seconds=round(ended.warmup_seconds, 3), curve=job.forecast.told(job.purpose),
            foretold=job.run.foretold or job.forecast.foretold,
        )  # fmt: skip
        if ended.stopped_by in FORESEEN:
            status, failure = job.forecast.failure(ended.stopped_by)
            job.run = replace(job.run, saved_seconds=job.forecast.saved(ended.stopped_by), saved_by=ended.stopped_by)
            raise Stopped(status, failure)
        self._check(ended, "train", "train_budget_overrun")
        if job.gate is not None and not job.gate.opened:
            told = "it ended without a word on GITRESEARCH_READY, so it was never given its data"
            raise Stopped("crash", Failure("train", "never_ready", (*failures.last_lines(ended.log), told)))
        return ended.log

    def _gate(self, job: Job) -> AbstractContextManager[object]:
        """Give the job the gate that the study's budget asks for, its data behind it."""
        seconds = job.budget.warmup_seconds
        if not seconds:
            return nullcontext()
        hand_over: Callable[[], None] = lambda: None  # noqa: E731
        if "train" in self.data:
            handover = Handover(self.data["train"], job.top)
            job.shown, hand_over = handover.shown, handover.give
        limits = self._run_limits(seconds)
        job.gate = Gate(limits.wall_seconds, limits.cpu_seconds, hand_over)
        return job.gate.held()

    def _check(self, ended: Ended, phase: str, overrun: str, said: str = "") -> None:
        """Turn a bad end into its status. What the hook `said` of it stands above: a program that sends too little and
        waits has no other sign, and one that the hook hung up on breaks for another reason than its own."""
        told = (failures.tidy(said),) if said else ()
        if not ended.began:
            raise Stopped("harness_abort", Failure("harness", "Sandbox", failures.last_lines(ended.log)))
        if ended.stopped_by == "cancelled":
            raise Stopped("harness_abort", Failure(phase, "cancelled"))
        if ended.stopped_by in ("cpu", "wall", "warmup"):
            used = f"{ended.cpu_seconds:.1f} CPU s, {ended.wall_seconds:.1f} s"
            if ended.stopped_by == "warmup":
                used = f"{ended.warmup_seconds:.1f} s, and was not ready"
            raise Stopped(overrun, Failure(phase, f"{ended.stopped_by}_budget", (*told, f"stopped after {used}")))
        if ended.stopped_by:
            facts = f"peak memory {ended.peak_memory_bytes >> 20} MiB, log {ended.log_bytes} bytes"
            if ended.stopped_by == "disk":
                facts = f"over {self.study.budget.disk_mb} MiB of files, or folders nested too deep or closed to us"
            raise Stopped("resource_limit", Failure(phase, ended.stopped_by, (facts,)))
        if ended.exit_code and shutil.disk_usage(self.cache).free < NO_SPACE:
            raise Stopped("harness_abort", Failure("harness", "NoSpace", (f"no space left in {self.cache}",)))
        if ended.exit_code:
            label, lines = failures.explain(ended.log, ended.signal_name, ended.exit_code)
            raise Stopped("crash", Failure(phase, label, (*told, *lines)))

    def _measure(self, hook: Hook, job: Job) -> None:
        request = {"tree": str(job.tree), "artefact": str(job.artefact), "limits": limits_of(job.budget)}
        reply = hook.call("measure", request, job.cancel)
        if "invalid" in reply:
            raise Stopped("invalid", Failure("measure", "artefact", (failures.tidy(str(reply["invalid"])),)))
        size = reply.get("artefact_bytes")
        if isinstance(size, bool) or not isinstance(size, int):
            raise HookFault("the hook's measure gave no artefact_bytes")
        job.run = replace(job.run, artefact_bytes=size)
        cap = job.budget.artefact_bytes
        if cap and size > cap:
            parts = reply.get("parts", {})
            told = ", ".join(f"{name} {count}" for name, count in parts.items()) if isinstance(parts, dict) else ""
            lines = (f"{size} bytes, {size - cap} over the cap of {cap}", failures.tidy(told))
            raise Stopped("size_blocked", Failure("measure", "artefact_too_large", lines))

    def _score(self, scoring: Scoring, job: Job) -> None:
        """The hook's metrics. With a predict command, the hook talks to the sandboxed predictor through two pipes."""
        budget = job.budget.eval_seconds
        self._tell(job, "score", 0.0, budget)
        request: dict[str, Any] = {"tree": str(job.tree), "artefact": str(job.artefact), "seed": job.seed}
        request["held_out"] = str(self.data.get("holdout" if job.purpose == HOLDOUT else "held_out", ""))
        request |= {"smoke": True} if job.smoke else {}
        if not self.study.recipe.predict:
            self._take(job, scoring.ask(request, 0.0, job.cancel), None)
            return
        predictor = Process(
            self.box, self._argv(self.study.recipe.predict), self._world(job, training=False),
            self._run_limits(budget), stdin=scoring.trial_in, stdout=scoring.trial_out,
        )  # fmt: skip
        scoring.hang_up()
        told: list[float] = []
        with ThreadPoolExecutor(1) as listener:
            answer = listener.submit(scoring.ask, request, TALK_FACTOR * budget + WALL_GRACE, job.cancel)
            answer.add_done_callback(lambda _answer: told.append(time.monotonic()))
            ended = predictor.wait(job.cancel, lambda used: self._tell(job, "score", used, budget))
        peak = max(job.run.peak_memory_bytes, ended.peak_memory_bytes)
        job.run = replace(job.run, eval_seconds=self._seconds(ended), peak_memory_bytes=peak)
        try:
            reply = answer.result()
        except HookFault:
            # A hook that fails after its predictor was stopped failed for that reason; one that failed before is ours.
            if ended.stopped_by and told[0] > predictor.started + ended.wall_seconds - STOP_SECONDS:
                self._check(ended, "score", "eval_budget_overrun")
            raise
        self._take(job, reply, ended)

    def _take(self, job: Job, reply: Mapping[str, Any], ended: Ended | None) -> None:
        """Metrics out of the hook's reply; how the predictor ended comes first, since it explains a broken talk."""
        metrics = reply.get("metrics")
        if ended is not None and (ended.stopped_by or not ended.began or not reply.keys() & {"metrics", "invalid"}):
            self._check(ended, "score", "eval_budget_overrun", str(reply.get("crashed", "")))
        if "crashed" in reply:
            raise Stopped("crash", Failure("score", "prediction", (failures.tidy(str(reply["crashed"])),)))
        if "invalid" in reply:
            raise Stopped("invalid", Failure("score", "prediction", (failures.tidy(str(reply["invalid"])),)))
        if not isinstance(metrics, dict) or not all(_is_number(value) for value in metrics.values()):
            raise HookFault("the hook's score gave no metrics")
        if taken := metrics.keys() & OWN_METRICS:
            raise HookFault(f"the hook's score gave {min(taken)}, which is the evaluator's to measure")
        told = {**metrics, **self._own_metrics(job.run)}
        if self.study.objective.metric not in told:
            raise HookFault(f"the hook's score gave no {self.study.objective.metric}")
        job.run = replace(job.run, metrics={str(name): float(value) for name, value in told.items()})

    def _own_metrics(self, run: Run) -> dict[str, float]:
        """What the study asks for of what is measured here: a task may be scored by its time or its bytes."""
        asked = {self.study.objective.metric, *(gate.metric for gate in self.study.gates)}
        return {name: getattr(run, name) for name in OWN_METRICS & asked}

    def _read_metric(self, job: Job, log: bytes) -> None:
        """A study without a hook: the metric is the last match of its pattern in the log (trust: self-reported)."""
        found = re.findall(self.study.evaluator.pattern, log.decode("utf-8", "replace"))
        name = self.study.objective.metric
        if not found:
            lines = failures.last_lines(log)
            raise Stopped("crash", Failure("score", "no_metric", (*lines, f"{name} was not printed")))
        try:
            value = float(found[-1])
        except ValueError:
            raise Stopped("invalid", Failure("score", "no_number", (failures.tidy(str(found[-1])),))) from None
        if not abs(value) < float("inf"):
            raise Stopped("crash", Failure("score", "not_finite", (f"{name} is {value}",)))
        job.run = replace(job.run, metrics={name: value})

    def _tell(self, job: Job, phase: str, used: float = 0.0, budget: float = 0.0) -> None:
        if job.beside:
            return
        said = (job.forecast.share, job.forecast.metric) if job.forecast and phase == "train" else (None, None)
        phase = "smoke" if job.smoke else phase
        self.on_event(Event(job.trial.oid, job.name, job.purpose, phase, used, budget, *said))


def limits_of(budget: Budget) -> dict[str, int]:
    return {"artefact_bytes": budget.artefact_bytes}


def _interpreter(python: str) -> str:
    if not python:
        return sys.executable
    found = shutil.which(os.path.expanduser(python))
    if found is None:
        raise GitResearchError(f"there is no interpreter {python}", "edit recipe.python in study.toml")
    return os.path.abspath(found)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
