"""Propose and evaluate until a budget ends: lineage -> propose -> commit -> evaluate -> note -> lineage.

What to do next is derived from the lineage each time a slot falls free, never stored: so a loop that was killed goes
on from git alone, and several loops on one repository share the work through claims. Slots are threads; each waits on
processes of its own and on nothing else.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from gitresearch import drift, holdout
from gitresearch.agents import ProposalFailed, Usage
from gitresearch.errors import GitResearchError
from gitresearch.lab import Lab
from gitresearch.outcome import HOLDOUT, Outcome
from gitresearch.policy import Turn, next_turn
from gitresearch.propose import Proposer
from gitresearch.text import plural
from gitresearch.trial import Trial

POLL_SECONDS = 0.2
MAX_ABORTS = 3  # harness faults in a row before the loop asks for a person
CLAIMED_RETRY_SECONDS = 5.0
PAUSE_SECONDS, LONGEST_PAUSE = 10.0, 600.0  # after the client's own retries


@dataclass(frozen=True)
class Plan:
    """When to stop. 0 is no limit; proposals under way when one is met go on. `trials` counts those proposed from now
    on, `total` all of the study's."""

    trials: int | None = None
    total: int = 0
    hours: float = 0.0
    dollars: float = 0.0
    tokens: int = 0  # in and out
    before: Usage = field(default_factory=Usage)  # what counts for these two already
    stall_trials: int = 0
    jobs: int = 1
    only: frozenset[str] = frozenset()  # assess these trials and nothing else; empty: whatever waits


class Stop:
    """How a person stops the loop: asked once it finishes what runs, asked twice it cancels that too."""

    def __init__(self) -> None:
        self.now = threading.Event()
        self.asked = 0

    def ask(self) -> None:
        self.asked += 1
        if self.asked > 1:
            self.now.set()


class Watcher(Protocol):
    """Who is told what happens; the loop itself prints nothing."""

    def proposed(self, trial: Trial) -> None: ...
    def settled(self, trial: Trial, outcome: Outcome) -> None: ...
    def said(self, text: str) -> None: ...


@dataclass
class Report:
    """What a run of the loop came to, and why it ended."""

    why: str = ""
    proposed: int = 0
    evaluated: int = 0
    unproposed: int = 0  # turns that ended without an edit
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    broken: GitResearchError | None = None  # the mistake in the agent's set-up that ended the proposing


@dataclass
class _State:
    """The loop's own counters; everything else is in the lineage."""

    started: float = field(default_factory=time.monotonic)
    proposing: Counter[str] = field(default_factory=Counter)
    working: set[str] = field(default_factory=set)
    calibrating: int = 0
    confirming: int = 0
    drifting: bool = False
    holding_out: bool = False  # a run on the holdout is under way
    aborts: Counter[str] = field(default_factory=Counter)  # in a row, by what the runs were for
    begun: set[tuple[str, str]] = field(default_factory=set)  # repairs and merges: the same again would fail again
    fruitless: Counter[str] = field(default_factory=Counter)  # a specialist's turns in a row without an edit
    outages: int = 0  # pauses in a row while the agent's server is out
    paused_until: float = 0.0
    elsewhere: dict[str, float] = field(default_factory=dict)  # claimed by another process: when to look again


class Loop:
    """One run of the loop. `run` returns when a limit is met, nothing is left to do, or a person stopped it."""

    def __init__(self, lab: Lab, proposer: Proposer | None, plan: Plan, stop: Stop, watcher: Watcher) -> None:
        self.lab, self.proposer, self.plan, self.stop, self.watcher = lab, proposer, plan, stop, watcher
        self.report = Report()
        self.state = _State()
        lab.on_settled = self._settled

    def run(self) -> Report:
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(self.plan.jobs, thread_name_prefix="slot") as slots:
            try:
                while True:
                    while len(running) < self.plan.jobs and (work := self._next(bool(running))):
                        running.add(slots.submit(work))
                    if not running:
                        if self.proposer is None or self.report.why:
                            break
                        time.sleep(POLL_SECONDS)  # paused: the agent's server is out
                        continue
                    done, running = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
            except BaseException:
                self.stop.now.set()  # let the slots end their processes before the error goes on
                raise
        self.report.seconds = time.monotonic() - self.state.started
        return self.report

    def _next(self, busy: bool) -> Callable[[], None] | None:
        """The next piece of work, most urgent first; None where there is none now."""
        if self.stop.asked:
            self.report.why = "stopped"
            return None
        with self.lab.lock:
            baseline = self.lab.baseline.oid
            if self.lab.missing(baseline, "baseline") > self.state.calibrating:
                self.state.calibrating += 1
                return self._calibrate
            if self.lab.missing(baseline, "baseline"):
                return None  # nothing can be judged before the baseline is calibrated
            if self.proposer is None:
                return self._assess_next()
            return (
                self._assess_next()
                or self._drift_next()
                or self._holdout_next()
                or self._confirm_next(ending=False)
                or self._propose_next()
                or self._end(busy)
            )

    def _assess_next(self) -> Callable[[], None] | None:
        for node in self.lab.lineage.pending():
            oid = node.trial.oid
            if (self.plan.only and oid not in self.plan.only) or self.lab.lineage.twin(node.trial):
                continue
            if oid not in self.state.working and self.state.elsewhere.get(oid, 0.0) < time.monotonic():
                self.state.working.add(oid)
                return partial(self._assess, node.trial)
        return None

    def _drift_next(self) -> Callable[[], None] | None:
        if self.state.drifting or not self.lab.drift_due():
            return None
        self.state.drifting = True
        return self._drift

    def _holdout_next(self) -> Callable[[], None] | None:
        oid = None if self.state.holding_out else self.lab.holdout_due()
        if oid is None:
            return None
        self.state.holding_out = True
        return partial(self._hold_out, oid)

    def _confirm_next(self, *, ending: bool) -> Callable[[], None] | None:
        oid = self.lab.claim_due(ending=ending)
        if oid is None or self.lab.missing(oid, "confirm") <= self.state.confirming:
            return None
        self.state.confirming += 1
        return partial(self._confirm, oid)

    def _propose_next(self) -> Callable[[], None] | None:
        self.report.why = self._limit()
        if self.report.why:
            return None
        if self._paused():
            return None
        patience = self.lab.study.agent.patience
        tired = {name for name, count in self.state.fruitless.items() if count >= patience}
        draw = self.lab.study.agent.seed + self.report.unproposed  # the same turn again would fail again
        turn = next_turn(self.lab.study, self.lab.lineage, self.state.proposing, tired, draw, self.state.begun)
        if turn is None:
            self.report.why = "no specialist finds a new edit"
            return None
        self.state.proposing[turn.specialist.name] += 1
        if turn.once:
            self.state.begun.add(turn.once)
        return partial(self._propose, turn)

    def _end(self, busy: bool) -> Callable[[], None] | None:
        """At the end the head makes its claim; until nothing runs any more that could still change the head, wait."""
        if self._paused() or (busy and not self.state.confirming):
            return None
        return self._confirm_next(ending=True)

    def _paused(self) -> bool:
        """Whether proposing waits for the agent's server to come back; evaluations go on meanwhile."""
        return not self.report.why and time.monotonic() < self.state.paused_until

    def _limit(self) -> str:
        """Which limit is met, in words; empty while none is. Proposals under way count as made."""
        if self.report.broken:
            return "the agent can't work"
        plan, made = self.plan, self.report.proposed + self.state.proposing.total()
        total = len(self.lab.lineage) - 1 + self.state.proposing.total()
        hours = (time.monotonic() - self.state.started) / 3600
        if plan.trials is not None and made >= plan.trials:
            return f"{plural(plan.trials, 'trial')} proposed"
        if plan.total and total >= plan.total:
            return f"the study's {plan.total} trials are made"
        if plan.hours and hours >= plan.hours:
            return f"{plan.hours:g} hours are over"
        spent = plan.before + self.report.usage
        if plan.dollars and spent.dollars >= plan.dollars:
            return f"{spent.dollars:.2f} of {plan.dollars:.2f} dollars are spent"
        if plan.tokens and spent.tokens >= plan.tokens:
            return f"{spent.tokens:,} of {plan.tokens:,} tokens are spent"
        if plan.stall_trials and self._since_keep() >= plan.stall_trials:
            return f"{plan.stall_trials} trials in a row without a keep"
        return ""

    def _since_keep(self) -> int:
        for count, node in enumerate(self.lab.lineage.recent(self.plan.stall_trials)):
            if node.status in ("keep", "baseline"):
                return count
        return min(self.plan.stall_trials, len(self.lab.lineage))

    def _calibrate(self) -> None:
        try:
            self.lab.calibrate(self.stop.now)
        finally:
            with self.lab.lock:
                self.state.calibrating -= 1

    def _drift(self) -> None:
        try:
            outcome = self.lab.look_for_drift(self.stop.now)
            if outcome and outcome.runs[-1].status != "ok":
                self.watcher.said(f"the unchanged recipe, run again, ended in {outcome.runs[-1].status}")
            elif outcome and outcome.decision.get("drift_verdict") == "moved":
                self.watcher.said(f"{drift.told(outcome)}; scores of before and after may not compare")
        finally:
            with self.lab.lock:
                self.state.drifting = False

    def _hold_out(self, oid: str) -> None:
        try:
            outcome, failure = self.lab.score_on_holdout(oid, self.stop.now) or (None, None)
            if failure:
                self.watcher.said(f"{oid[:8]}, run on the holdout: {(failure.label, *failure.lines)[-1]}")
            if outcome and holdout.warns(outcome):
                self.watcher.said(f"{oid[:8]}: {holdout.told(outcome)}")
        finally:
            with self.lab.lock:
                self.state.holding_out = False

    def _confirm(self, oid: str) -> None:
        try:
            self.lab.confirm(oid, self.stop.now)
        finally:
            with self.lab.lock:
                self.state.confirming -= 1

    def _propose(self, turn: Turn) -> None:
        """A turn: propose, then evaluate what came of it in the same slot."""
        name = turn.specialist.name
        trial = None
        try:
            trial = self._ask(turn)
        except ProposalFailed as failed:
            self._unproposed(turn, failed)
        finally:
            with self.lab.lock:
                self.state.proposing[name] -= 1
                if trial is not None:
                    self.state.fruitless[name] = self.state.outages = 0
                    self.report.proposed += 1
                    self.state.working.add(trial.oid)
                    self.lab.add(trial)
        if trial is not None:
            self.watcher.proposed(trial)
            self._assess(trial)

    def _unproposed(self, turn: Turn, failed: ProposalFailed) -> None:
        """A turn that came to nothing: an outage is waited for, a mistake in the set-up ends the proposing, and a
        specialist that has no edit again and again rests. That two trials can't be merged is nobody's fault."""
        told = str(failed)
        with self.lab.lock:
            self.report.unproposed += 1
            self.report.usage += failed.usage
            if failed.fault == "setup":
                self.report.broken = failed
            elif failed.fault == "outage":
                if turn.once:
                    self.state.begun.discard(turn.once)
                pause = self._pause()
                told = f"{failed.message}; proposing goes on in {pause:.3g} s"
            elif turn.other is None:
                self.state.fruitless[turn.specialist.name] += 1
        self.watcher.said(told)

    def _pause(self) -> float:
        """Wait twice as long as last time; calls that failed beside the first, by the same outage, add nothing."""
        if time.monotonic() >= self.state.paused_until:
            pause: float = min(PAUSE_SECONDS * 2**self.state.outages, LONGEST_PAUSE)
            self.state.outages += 1
            self.state.paused_until = time.monotonic() + pause * random.uniform(1, 1.25)  # noqa: S311
            return pause
        return self.state.paused_until - time.monotonic()

    def _ask(self, turn: Turn) -> Trial:
        if self.proposer is None:
            raise GitResearchError("nobody proposes here", "gitresearch run")
        with self.lab.lock:
            request = self.proposer.request(self.lab.lineage, turn)
            if self.proposer.agent.reads_lineage:
                return self._made(self.proposer.answer(self.lab.lineage, request))
        return self._made(self.proposer.answer(self.lab.lineage, request))

    def _made(self, made: tuple[Trial, Usage]) -> Trial:
        trial, usage = made
        self.report.usage += usage
        return trial

    def _assess(self, trial: Trial) -> None:
        try:
            outcome = self.lab.assess(trial, self.stop.now)
            if outcome is None:
                self.state.elsewhere[trial.oid] = time.monotonic() + CLAIMED_RETRY_SECONDS
        finally:
            with self.lab.lock:
                self.state.working.discard(trial.oid)

    def _settled(self, trial: Trial, outcome: Outcome) -> None:
        self.report.evaluated += 1
        self.watcher.settled(trial, outcome)
        if outcome.summary.status == "keep" and outcome.runs[-1].purpose != HOLDOUT:
            self.state.fruitless.clear()  # a new head is new ground for everyone
        last = outcome.runs[-1]
        self.state.aborts[last.purpose] = self.state.aborts[last.purpose] + 1 if last.status == "harness_abort" else 0
        if self.state.aborts[last.purpose] >= MAX_ABORTS:
            raise GitResearchError(
                f"the evaluator itself failed {MAX_ABORTS} times in a row: {outcome.summary.reason}",
                f"see gitresearch show {trial.short}, mend the hook or the machine, and run again",
            )
