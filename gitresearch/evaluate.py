"""One execution of a trial with one seed: preflight -> smoke -> train -> measure -> score, in processes of their own.

The trial's code runs only in the sandbox, on files written out of git blobs, in a folder made for this run and removed
after it. The judge is the study's hook; labels and held-out data stay with it. Whatever happens, the answer is a run
with a status: the trial's failures are statuses with the log lines that show them, our own is `harness_abort`.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from gitresearch import accelerator, data, machine, sandbox, smoke
from gitresearch.accelerator import Accelerators
from gitresearch.cores import Cores
from gitresearch.curves import Bar
from gitresearch.errors import GitResearchError
from gitresearch.hooks import Hook, HookFault, Scoring, export_hook
from gitresearch.outcome import RELATIVE, Failure, Run, now
from gitresearch.sandbox import Sandbox
from gitresearch.stages import Event, Job, Source, Stages, Stopped
from gitresearch.study import Study
from gitresearch.surface import safe_path
from gitresearch.text import one_line
from gitresearch.trial import Trial
from gitresearch.workdir import Workdir, remove

WATCH_SECONDS = 0.2  # between two looks whether somebody wants a run to end


@dataclass(frozen=True)
class RunResult:
    """A run, why it failed if it did, and the facts that bind it to machine, commit, hook and data."""

    run: Run
    failure: Failure | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    binding: Mapping[str, Any] = field(default_factory=dict)


class Evaluator(Stages):
    """Runs trials of one study. Safe to use from several threads: every run has folders and processes of its own."""

    def __init__(
        self, source: Source, study: Study, base: str, box: Sandbox, cache: Path,
        on_event: Callable[[Event], None] = lambda _event: None,
    ) -> None:  # fmt: skip
        super().__init__(source, study, base, box, cache, on_event)
        self.hook: Hook | None = None
        self.work: Workdir | None = None
        self.accelerators = Accelerators()
        self.cores = Cores()
        self.data_digest = ""
        self._smoked: set[str] = set()  # the trials that had their smoke run
        self._usual = 0.0  # seconds that the last run took which ended well: what a blocked one is taken to have spared

    def prepare(self) -> None:
        """Export the hook and make the data ready. GitResearchError with the command to type where that can't be."""
        machine.require(self.study.budget)
        accelerator.require(self.study.budget)
        shown = sandbox.interpreter_folders(self.python) if self.box.level != "none" else ()
        self.work = self.work or Workdir(self.cache / "work")
        hook = self._open_hook()
        if hook is None:
            return
        found = data.prepare(hook, self.cache)
        if self.study.seeds.holdout:
            data.require_holdout(found)
        self.data, self.data_digest = found.folders, found.digest
        self._hide(shown)

    def _open_hook(self) -> Hook | None:
        """The study's hook, exported once; None where the study has none."""
        settings = self.study.evaluator
        if settings.hook and self.hook is None:
            self.work = self.work or Workdir(self.cache / "work")
            program = export_hook(self.source.export, self.base, settings.hook, self.work.folder("hook") / "files")
            self.hook = Hook(program, settings.settings, settings.hook_seconds)
        return self.hook

    def foresee(self, files: Mapping[str, bytes]) -> str:
        """The preflight of files that are no trial yet, by path from the repository's root: why it would end there, or
        nothing. No data is needed, and nothing of a trial runs."""
        hook, root = self._open_hook(), self.study.recipe.folder
        if hook is None or self.work is None:
            return ""
        with self.work.borrowed("foresee") as top:
            for path, data in files.items():
                if not safe_path(path):
                    return f"preflight_crash: {one_line(path, 100)!r} is no path for a file"
                place = top / path.removeprefix(f"{root}/" if root else "")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
            try:
                self._preflight(hook, top, None)
            except Stopped as stopped:
                return f"{stopped.status}: {'; '.join(stopped.failure.lines) or stopped.failure.label}"
            except HookFault:
                return ""  # ours, and said where the trial is evaluated
        return ""

    def _hide(self, folders: Iterable[str]) -> None:
        """The labels must not lie in what a trial is shown."""
        hidden = [self.data[name].resolve() for name in ("held_out", "holdout") if name in self.data]
        shown = [*map(Path, folders), Path("/usr"), *filter(None, [self.data.get("train")])]
        for split, folder in product(hidden, shown):
            if split.is_relative_to(folder.resolve()):
                raise GitResearchError(
                    f"trials would see the held-out data in {split}: it lies in {folder}",
                    "set GITRESEARCH_CACHE to another folder, or mend the hook's prepare",
                )

    def close(self) -> None:
        """End what was started ahead of need."""
        if self.hook is not None:
            self.hook.close()
        if self.work is not None:
            self.work.close()

    def run(
        self, trial: Trial, seed: int, purpose: str, cancel: threading.Event | None = None, bar: Bar | None = None
    ) -> RunResult:
        """Execute the trial once, or until it can't reach the bar. Never raises for what a trial or the hook does."""
        started = time.monotonic()
        self.work = self.work or Workdir(self.cache / "work")
        with self.work.borrowed(f"run-{trial.short}") as top:
            run = Run(seed, purpose, "ok", started=now())
            job = Job(trial, top, purpose, seed, cancel, run, self.study.budget, bar)
            failure = self._attempt(job)
            if self._alone and job.run.status != "harness_abort" and (others := self.accelerators.spoilt()):
                job.run = replace(job.run, status="harness_abort", metrics={}, saved_seconds=0.0, saved_by="")
                failure = Failure("harness", "accelerator_in_use", (*others, "it was so at the end of the run"))
            if job.run.status == "ok":
                self._usual = round(job.run.train_seconds + job.run.eval_seconds, 3)
            self._tell(job, "done")
            run = replace(job.run, wall_seconds=round(time.monotonic() - started, 3))
        return RunResult(run, failure, self.environment(), self.binding(trial))

    @property
    def _alone(self) -> bool:
        """Whether the clock counts what others do on an accelerator."""
        return self.study.budget.clock == "wall"

    def _attempt(self, job: Job) -> Failure | None:
        """Take the job through its phases; why it failed, if it did."""
        try:
            self._await_accelerator(job)
            with self.accelerators.running():
                self._phases(job)
        except Stopped as stopped:
            job.run = replace(job.run, status=stopped.status)
            by = smoke.spares(stopped.status, stopped.failure.phase)
            if by and (saved := round(self._usual - job.run.smoke_seconds, 3)) > 0:
                job.run = replace(job.run, saved_seconds=saved, saved_by=by)
            return stopped.failure
        except HookFault as fault:
            job.run = replace(job.run, status="harness_abort")
            return Failure("hook", "HookFault", (*fault.lines, fault.message))
        except OSError as error:
            job.run = replace(job.run, status="harness_abort")
            return Failure("harness", type(error).__name__, (str(error)[:300],))
        return None

    def _await_accelerator(self, job: Job) -> None:
        """Wait for an accelerator that nobody else uses, and say so; give up in time."""
        if not self._alone:
            return
        limit = accelerator.WAIT_SECONDS
        others = self.accelerators.wait_until_free(job.cancel, lambda used: self._tell(job, "in use", used, limit))
        if others:
            cancelled = job.cancel is not None and job.cancel.is_set()
            label = "cancelled" if cancelled else "accelerator_in_use"
            raise Stopped("harness_abort", Failure("harness", label, others))

    def _phases(self, job: Job) -> None:
        self._tell(job, "preflight")
        self._export(job)
        reply = self._preflight(self.hook, job.tree, job.cancel) if self.hook else {}
        self._take_sizes(job, reply)
        if self.study.budget.smoke_seconds and job.purpose in smoke.BEFORE and job.trial.oid not in self._smoked:
            self._smoke(job, scored=reply.get("smoke") is True)
            self._smoked.add(job.trial.oid)  # not before: one that our own fault ended is due again
        if self.hook is None:
            self._read_metric(job, self._train(job))
        else:
            work = self._work_beside if self.study.relative else self._work
            work(self.hook, job)

    def _work_beside(self, hook: Hook, job: Job) -> None:
        """The job, and at the same time on the same core the unchanged recipe, in whose seconds the job's are told.

        They take turns of milliseconds, so what slows the one slows the other: decision 0036.
        """
        stop, ratio = threading.Event(), job.bar if self.study.objective.metric == RELATIVE else None
        run = Run(job.seed, job.purpose, "ok")
        beside = replace(job, top=job.top / "baseline", run=run, bar=None, cancel=stop, beside=True)
        if ratio:
            job.bar = replace(ratio, seconds=math.inf)  # until it is known to what they are relative

        def baseline() -> None:
            self._work(hook, beside)
            if ratio and job.forecast:
                job.forecast.bar = ratio.over(beside.run.total_seconds)

        beside.top.mkdir()
        self._export(beside)
        with self.cores.one(), ThreadPoolExecutor(1) as pool:
            other = pool.submit(baseline)
            try:
                self._work(hook, job)
                while not other.done() and not (job.cancel and job.cancel.is_set()):
                    wait([other], timeout=WATCH_SECONDS)
            finally:
                stop.set()
                wait([other])
                if not other.exception():
                    job.run = replace(job.run, baseline_seconds=beside.run.total_seconds)
        remove(beside.top)
        scored, job.run = job.run.metrics, replace(job.run, metrics={})
        try:
            other.result()
        except Stopped as stopped:
            told = (f"the unchanged recipe, run beside the trial, ended in {stopped.status}", *stopped.failure.lines)
            raise Stopped("harness_abort", Failure("harness", "baseline", told)) from None
        job.run = replace(job.run, metrics={**scored, **self._own_metrics(job.run)})

    def _work(self, hook: Hook, job: Job, *, scored: bool = True) -> None:
        """Train, weigh, and where it is asked for score."""
        with Scoring(hook, pipes=bool(self.study.recipe.predict)) as scoring:
            hook.warm("measure")
            hook.warm("preflight")
            self._train(job)
            # What training left beside its files must not reach the predictor uncounted: only the artefact goes on.
            remove(job.tree)
            self._export(job)
            self._measure(hook, job)
            if scored:
                self._score(scoring, job)

    def _smoke(self, job: Job, *, scored: bool) -> None:
        """The same in small, in folders of its own; Stopped where the trial can't work."""
        small = replace(job, top=job.top / "smoke", budget=smoke.limits(job.budget), bar=None, smoke=True)
        found = None
        try:
            small.top.mkdir()
            self._export(small)
            if self.hook is None:
                self._train(small)
            else:
                self._work(self.hook, small, scored=scored)
        except Stopped as stopped:
            found = smoke.meaning(stopped.status, stopped.failure)
        finally:
            remove(small.top)
        spent, size = round(small.run.total_seconds + small.run.warmup_seconds, 3), small.run.artefact_bytes
        peak = small.run.peak_memory_bytes
        job.run = replace(
            job.run, smoke_seconds=spent, smoke_bytes=size, smoke_memory_bytes=peak, peak_memory_bytes=peak
        )
        if found is not None:
            raise Stopped(*found)
        if not job.run.projected_bytes:
            job.run = replace(job.run, projected_bytes=size)
            self._judge_size(job, "smoke measure")
        if job.bar:
            why = job.bar.too_hungry(peak, job.budget.memory_mb << 20)
            self._foretold(job, "resource_limit", Failure("smoke measure", "foretold_too_hungry", (why,)))

    def environment(self) -> dict[str, Any]:
        """What the runs ran on."""
        study = {"trust": self.study.trust, "clock": self.study.budget.clock}
        box = {"sandbox": self.box.level, "sandbox_program": self.box.description}
        return {**box, **study, **machine.facts(self.python)}

    def binding(self, trial: Trial) -> dict[str, Any]:
        """What the outcome is about, by digest."""
        return {
            "commit": trial.oid,
            "tree": trial.tree,
            "base": self.base,
            "hook": self.hook.digest if self.hook else "",
            "data": self.data_digest,
        }
