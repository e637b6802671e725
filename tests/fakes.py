"""Hand-written stand-ins for the slow outside: an evaluator with scripted scores, an agent with scripted edits."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gitresearch.agents import Proposal, ProposalFailed, Request
from gitresearch.evaluate import RunResult
from gitresearch.outcome import Failure, Run
from gitresearch.trial import Hypothesis, Trial

Scored = float | str | Failure


@dataclass
class FakeRuns:
    """Scores a trial by a function of the trial, seed and purpose: a number is its loss, a string the status of a
    failure. Every call is kept in `history`; `seconds` is how long a run takes."""

    score: Callable[[Trial, int, str], float | str]
    seconds: float = 0.0
    metric: str = "loss"
    history: list[tuple[str, str]] = field(default_factory=list)
    bars: list[object] = field(default_factory=list)
    most_at_once: int = 0
    _running: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(
        self, trial: Trial, seed: int, purpose: str, cancel: threading.Event | None = None, bar: object = None
    ) -> RunResult:
        with self._lock:
            self.history.append((trial.oid, purpose))
            self.bars.append(bar)
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            end = time.monotonic() + self.seconds
            while time.monotonic() < end:
                if cancel is not None and cancel.wait(0.005):
                    return self._failed(seed, purpose, "harness_abort", "cancelled")
            found = self.score(trial, seed, purpose)
        finally:
            with self._lock:
                self._running -= 1
        if isinstance(found, str):
            return self._failed(seed, purpose, found, "Scripted")
        measured = {self.metric: found}
        run = Run(seed, purpose, "ok", measured, train_seconds=1.0, wall_seconds=1.0, started="2026-01-01T00:00:00Z")
        return RunResult(run=run, failure=None, environment={"sandbox": "fake"}, binding={"commit": trial.oid})

    def foresee(self, files: Mapping[str, bytes]) -> str:
        return ""

    def _failed(self, seed: int, purpose: str, status: str, label: str) -> RunResult:
        failure = Failure("train", label, ("the decisive line",))
        return RunResult(run=Run(seed, purpose, status), failure=failure, environment={}, binding={})


@dataclass
class FakeAgent:
    """Sets the constant VALUE of train.py to the next number of a queue; fails where the queue is empty."""

    queue: list[float]
    reads_lineage: bool = True
    resolves_conflicts: bool = False
    requests: list[Request] = field(default_factory=list)

    def propose(self, request: Request) -> Proposal:
        self.requests.append(request)
        if not self.queue:
            raise ProposalFailed("the queue is empty")
        value = self.queue.pop(0)
        hypothesis = Hypothesis.from_text(
            f"set VALUE to {value:g}",
            "a scripted change",
            study=request.study.name,
            specialist=request.specialist.name,
            operator=request.operator,
            assisted_by="fake:queue",
        )
        return Proposal(hypothesis, {"train.py": f"VALUE = {value!r}\n".encode()})
