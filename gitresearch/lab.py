"""A study open for work: what a run's result means, written down.

The lab holds the lineage in memory and the repository behind it, and turns runs into outcomes: calibrate the baseline,
assess a trial (screen, then fresh seeds if it earns them), claim the head. Every method leaves git in a state from
which another process can go on. A run is on record before it begins; one that a kill ended stays so, as
`harness_abort`, and is due again.
"""

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Protocol

from gitresearch import curves, decision, drift, holdout, looks, witness
from gitresearch.curves import Bar, Experience
from gitresearch.decision import Reference, Verdict
from gitresearch.errors import GitResearchError
from gitresearch.evaluate import RunResult
from gitresearch.lineage import Lineage, Node
from gitresearch.noise import Spread
from gitresearch.outcome import (
    DRIFT,
    HOLDOUT,
    REPRODUCE,
    REVOKED,
    TIMES,
    Failure,
    Outcome,
    Run,
    is_revoked,
    now,
    summarise,
    utc,
)
from gitresearch.repo import Repo, Start
from gitresearch.study import Study
from gitresearch.trial import Trial


class Runs(Protocol):
    """What the lab needs of an evaluator: one execution of one trial with one seed."""

    def run(
        self, trial: Trial, seed: int, purpose: str, cancel: threading.Event | None = None, bar: Bar | None = None
    ) -> RunResult: ...
    def foresee(self, files: Mapping[str, bytes]) -> str: ...


def draw_seed() -> int:
    """A seed that nobody could know when the commit was made."""
    return secrets.randbelow(2**31)


class Lab:
    """One study: lineage and details of what counts (baseline and keeps), behind one lock."""

    def __init__(self, repo: Repo, study: Study, base: str, runs: Runs) -> None:
        self.repo, self.study, self.base, self.runs = repo, study, base, runs
        self.lock = threading.RLock()
        self.details: dict[str, Outcome] = {}
        self.lineage = Lineage(study.objective)
        self._lost: Mapping[str, Sequence[Start]] = {}
        self.experience = Experience(study, repo.outcome)
        self.on_settled: Callable[[Trial, Outcome], None] = lambda _trial, _outcome: None
        self.reload()

    def reload(self) -> None:
        """Read everything from git again: what other processes wrote included."""
        with self.lock:
            self.lineage = Lineage.of(self.study.objective, self.repo.trials(self.study.name))
            for node in self.lineage:
                if _counts(node.trial, node.status) and (found := self.repo.outcome(node.trial.oid)):
                    self.details[node.trial.oid] = found
            self.baseline = self.repo.make_baseline(self.study.name, self.base)
            if self.baseline.oid not in self.lineage:
                self.lineage.put(Node(self.baseline))
            self._settle_lost()
            self.publish_best()  # a kill may have come between a claim's outcome and this

    def add(self, trial: Trial) -> None:
        with self.lock:
            if trial.oid not in self.lineage:
                self.lineage.put(Node(trial))

    def reopen(self, trial: Trial) -> None:
        """Let a trial whose evaluation failed by our own fault wait for another."""
        with self.lock:
            node = self.lineage.get(trial.oid)
            if node is None or node.status == "harness_abort":
                self.lineage.put(Node(trial))

    @property
    def reference(self) -> Reference:
        """What a trial is compared with now."""
        with self.lock:
            head = self.lineage.head
        if head is None or head.score is None or head.summary is None:
            raise GitResearchError("the baseline has no score yet", "gitresearch run --trials 0")
        name = "baseline" if head.status == "baseline" else f"head {head.trial.short}"
        return Reference(name, head.score, head.summary.n, self.noise)

    @property
    def noise(self) -> Mapping[str, Spread]:
        """The spread over the baseline's seeds of each metric that is decided by."""
        with self.lock:
            known = self.details.get(self.baseline.oid)
        return looks.known_noise(self.study, known) if known else {}

    @property
    def claims_made(self) -> int:
        """How many claims the study has made: those that stand in keeps, and those that were lost. What was taken back
        counts as one: its number is spent, and one too many only makes the next claim stricter."""
        lost = sum(node.summary.label in ("unconfirmed", REVOKED) for node in self.lineage if node.summary)
        return lost + sum("claim" in outcome.decision for outcome in self.details.values())

    def missing(self, oid: str, purpose: str, wanted: int = 0) -> int:
        """How many runs of a purpose (baseline or confirm) a trial still lacks, of the study's number or another."""
        done = self.details[oid].runs if oid in self.details else ()
        wanted = wanted or (self.study.seeds.baseline if purpose == "baseline" else self.study.seeds.confirm)
        return max(0, wanted - sum(run.purpose == purpose and run.status == "ok" for run in done))

    def _run(self, trial: Trial, purpose: str, cancel: threading.Event | None, bar: Bar | None = None) -> RunResult:
        """One run on a seed drawn now: every run of the lab begins here, and is on record first."""
        seed = draw_seed()
        if bar is not None and seed % curves.CHECKED == 0:
            bar = replace(bar, let_on=True)
        self.repo.start(trial.oid, seed, purpose)
        return self.runs.run(trial, seed, purpose, cancel, bar)

    @contextmanager
    def _books(self, oid: str) -> Iterator[Outcome | None]:
        """A trial's outcome as it stands now, the runs that were lost included. Nobody adds to it meanwhile: other
        processes may be at work on the same study."""
        with self.lock, self.repo.alone():
            found = self.repo.outcome(oid)
            yield replace(found, runs=self._with_lost(oid, found.runs)) if found else None

    def _with_lost(self, oid: str, runs: Sequence[Run]) -> tuple[Run, ...]:
        """The runs, and after them those that were started by a process that is dead, and have no result."""
        known = {(run.seed, run.purpose) for run in runs}
        lost = [start for start in self._lost.get(oid, ()) if (start.seed, start.purpose) not in known]
        return (*runs, *(_aborted(one) for one in lost if one.purpose != REPRODUCE))

    def _settle_lost(self) -> None:
        """Put the lost runs of trials that have an outcome on record; the others' come with theirs."""
        self._lost = self.repo.lost(self.study.longest_run)
        for oid in self._lost:
            if oid in self.lineage and self.lineage[oid].summary is not None:
                with self._books(oid) as found:
                    if found is not None and found != self.repo.outcome(oid):
                        self._write(self.lineage[oid].trial, _folded(found))
                for one in self._lost[oid]:
                    if one.purpose == REPRODUCE:
                        with suppress(GitResearchError):  # what it looked at was taken back meanwhile
                            self._witness(self.lineage[oid].trial, RunResult(_aborted(one)))

    def calibrate(self, cancel: threading.Event | None = None) -> Outcome | None:
        """One more seed of the baseline, recorded at once. None where it was cancelled.

        A baseline that fails is recorded as what it is and raised: there is nothing to search from.
        """
        result = self._run(self.baseline, "baseline", cancel)
        if _cancelled(cancel, result):
            return None
        with self._books(self.baseline.oid) as before:
            runs = (*(before.runs if before else self._with_lost(self.baseline.oid, ())), result.run)
            if result.failure or result.run.status != "ok":
                outcome = self._record(self.baseline, runs, _failed(result), result)
                raise GitResearchError(
                    f"the unchanged recipe fails: {outcome.headline.removeprefix('# ')}",
                    f"see gitresearch show {self.baseline.short}, mend the recipe, commit, and run again",
                )
            beside = drift.facts(self.study, runs) | holdout.facts(self.study, runs)
            found = replace(decision.calibrated(self.study, runs), arithmetic=beside)
            outcome = self._record(self.baseline, runs, found, result)
            self.publish_best()
            return outcome

    def drift_due(self) -> bool:
        """Whether the baseline is to be run again, to see whether it moved."""
        return drift.due(self.study, self.lineage, self.details.get(self.baseline.oid))

    def look_for_drift(self, cancel: threading.Event | None = None) -> Outcome | None:
        """The baseline once more, on record beside its seeds; whatever comes of it, it stays the baseline."""
        result = self._run(self.baseline, DRIFT, cancel)
        if _cancelled(cancel, result):
            return None
        with self._books(self.baseline.oid) as before:
            if before is None:
                raise GitResearchError("the outcome of the baseline is gone", "gitresearch audit")
            runs = (*before.runs, result.run)
            found = drift.facts(self.study, runs) | holdout.facts(self.study, runs)
            return self._write(self.baseline, _folded(replace(before, runs=runs, decision=found)))

    def holdout_due(self) -> str | None:
        """The trial that is to be scored on the holdout next: the baseline first, then what was confirmed."""
        with self.lock:
            known = dict.fromkeys((self.baseline.oid, *self.details)) if self.study.seeds.holdout else {}
            return next((oid for oid in known if oid in self.details and self._unscored(oid)), None)

    def _unscored(self, oid: str) -> bool:
        return holdout.lacking(self.study, self.details[oid]) > 0

    def score_on_holdout(
        self, oid: str, cancel: threading.Event | None = None
    ) -> tuple[Outcome, Failure | None] | None:
        """One run of a trial on the holdout, on record beside its others; whatever comes of it, the trial stays what it
        is. Why it failed is only returned: the lines may quote what no agent is to see."""
        trial = self.lineage[oid].trial
        result = self._run(trial, HOLDOUT, cancel)
        if _cancelled(cancel, result):
            return None
        with self._books(oid) as before:
            if before is None:
                raise GitResearchError(f"the outcome of {oid[:8]} is gone", "gitresearch audit")
            runs, first = (*before.runs, result.run), oid == self.baseline.oid
            baseline = self.details.get(self.baseline.oid)
            base = None if first or baseline is None else holdout.side(self.study, baseline.runs)
            found = holdout.facts(self.study, runs, before.decision, base, 0 if first else self._query(before, oid))
            made = dict(holdout.without(before).decision) | found
            return self._write(trial, _folded(replace(before, runs=runs, decision=made))), result.failure

    def _query(self, outcome: Outcome, oid: str) -> int:
        """A trial's place among those that were ever scored on the holdout. What was taken back counts: it was seen."""
        if isinstance(told := outcome.decision.get(holdout.QUERY), int):
            return told
        back = (node.trial.oid for node in self.lineage if node.summary and node.summary.label == REVOKED)
        others = [
            *(one for name, one in self.details.items() if name != oid),
            *filter(None, map(self.repo.outcome, back)),
        ]
        return 1 + sum(holdout.QUERY in one.decision for one in others)

    def assess(self, trial: Trial, cancel: threading.Event | None = None) -> Outcome | None:
        """Evaluate a trial that has no outcome. None where it was cancelled or somebody else is on it."""
        claim = self.repo.claim(self.study.name, trial.oid, self.lease_seconds(), "assess")
        if claim is None:
            return None
        try:
            known = self.repo.outcome(trial.oid)
            if known is not None and known.summary.status != "harness_abort":
                self._settle(trial, known)
                return known
            return self._assess(trial, self._with_lost(trial.oid, known.runs if known else ()), cancel)
        finally:
            claim.release()

    def _assess(self, trial: Trial, before: Sequence[Run], cancel: threading.Event | None) -> Outcome | None:
        """Screen, then fresh seeds if they are earned. What an assessment that our own fault ended had measured counts:
        it goes on from there, and the aborted run stays on record."""
        reference, runs = self.reference, list(before)
        done = [run for run in before if run.status == "ok"]
        made = Counter(run.purpose for run in done)
        result = None
        for purpose in decision.purposes(self.study, trial.operator, done, reference):
            if made[purpose]:
                made[purpose] -= 1
                continue
            result = self._run(trial, purpose, cancel, None if done else self._bar(trial, reference))
            if _cancelled(cancel, result):
                return None
            runs.append(result.run)
            done.append(result.run)
            if result.run.status != "ok":
                return self._record(trial, runs, _failed(result), result)
        if result is None:
            raise GitResearchError("the study asks for no runs", "edit [seeds] in study.toml")
        found = decision.verdict(self.study, done, reference)
        if trial.operator == "replicate":
            found = decision.replicated(self.study, found, done, self._scored(trial.parents[0]))
        return self._record(trial, runs, found, result)

    def _bar(self, trial: Trial, reference: Reference) -> Bar | None:
        """What a trial's first run has to be able to reach; None where only its end can tell."""
        if trial.operator == "replicate" or self.study.decision.rule != "two-tier":
            return None
        metric = self.study.objective.metric
        if metric in TIMES:
            return curves.time_bar(self.study, reference.score, reference.noise.get(metric, looks.UNKNOWN))
        with self.lock:
            past = [node for node in self.lineage.recent(curves.RECENT) if node.score is not None]
            trials = [node.trial for node in past if node.trial.operator not in ("baseline", "replicate")]
            pairs = [(one.oid, one.parents[0]) for one in trials]
            return self.experience.bar(trial.parents[0], pairs, reference.score)

    def _scored(self, oid: str) -> Reference | None:
        """A trial's score as something to compare with."""
        with self.lock:
            summary = known.summary if (known := self.lineage.get(oid)) else None
        return Reference(oid[:8], summary.score, summary.n) if summary and summary.score is not None else None

    def confirm(self, oid: str, cancel: threading.Event | None = None) -> Outcome | None:
        """One more confirmation seed of a keep; the last one decides the claim."""
        trial = self.lineage[oid].trial
        result = self._run(trial, "confirm", cancel)
        if _cancelled(cancel, result):
            return None
        with self._books(oid) as before:
            if before is None:
                raise GitResearchError(f"the outcome of {oid[:8]} is gone", "gitresearch audit")
            runs = (*before.runs, result.run)
            if result.run.status == "harness_abort":
                return self._write(trial, _folded(replace(before, runs=runs)))  # our fault costs a keep nothing
            if result.run.status != "ok":
                return self._record(trial, runs, replace(_failed(result), label="unconfirmed"), result)
            if "claim" in before.decision:  # another slot's seed decided it while this one ran
                return self._write(trial, _folded(replace(before, runs=runs)))
            metric = self.study.objective.metric
            head = replace(before, runs=runs, summary=summarise("keep", metric, runs, before.summary.at))
            rival, others = self._rivals(trial)
            if not decision.claim_due(self.study, head, rival, others):
                return self._write(trial, head)
            return self._claim(trial, head, rival, others)

    def _rivals(self, trial: Trial) -> tuple[Outcome, list[Outcome]]:
        """What a keep's claim is made against, and what else is known of the noise."""
        best = self.lineage.best
        rival = self.details[best.trial.oid if best else self.baseline.oid]
        return rival, [o for oid, o in self.details.items() if oid not in (trial.oid, best.trial.oid if best else "")]

    def _claim(self, trial: Trial, head: Outcome, rival: Outcome, others: Sequence[Outcome]) -> Outcome:
        found = decision.claim(self.study, head, rival, others, self.claims_made + 1, self.noise)
        made = {**head.decision, **found.arithmetic, "claim_at": now()}
        words = {"confirmed": found.confirmed, "reason": found.reason, "label": found.label, "claimed": True}
        summary = summarise(found.status, self.study.objective.metric, head.runs, head.summary.at, **words)
        outcome = self._write(trial, replace(head, summary=summary, decision=made))
        self.publish_best()
        return outcome

    def reproduce(self, trial: Trial, seeds: int, cancel: threading.Event | None = None) -> Outcome | None:
        """Run a trial that has an outcome again, as a second witness: what this evaluator says of it then, each run
        recorded at once. None where it was cancelled or somebody else is on the trial."""
        me = self.repo.evaluator_id()
        witness.claimed(trial, self.repo.outcomes(trial.oid), me)
        claim = self.repo.claim(self.study.name, trial.oid, seeds * self.study.longest_run, REPRODUCE)
        if claim is None:
            return None
        with claim:
            found = None
            for _ in range(seeds):
                result = self._run(trial, REPRODUCE, cancel)
                if _cancelled(cancel, result):
                    return None
                found = self._witness(trial, result)
                if result.run.status != "ok":
                    break
            return found

    def _witness(self, trial: Trial, result: RunResult) -> Outcome:
        """Add a witness's run to what this evaluator says of a trial."""
        metric, me = self.study.objective.metric, self.repo.evaluator_id()
        with self.lock, self.repo.alone():
            said = self.repo.outcomes(trial.oid)
            runs = (*(said[me].runs if me in said else ()), result.run)
            spread = witness.noise(list(self.details.values()), runs, metric)
            found = witness.added(trial, said, me, result, spread)
            self.repo.record(trial.oid, found)
        return found

    def revoke(self, trial: Trial, reason: str) -> Outcome:
        """Take this evaluator's own outcome back. What it counted for is worked out without it from then on."""
        with self.lock, self.repo.alone():
            outcome = self._revoked(trial, reason)
            self.repo.record(trial.oid, outcome)
            self._settle(trial, self.repo.outcome(trial.oid) or outcome)
            self.publish_best()
        return outcome

    def _revoked(self, trial: Trial, reason: str) -> Outcome:
        mine = self.repo.outcomes(trial.oid).get(self.repo.evaluator_id())
        if mine is None:
            why = f"{trial.short} was not measured by this clone, and nobody else can take its outcome back"
            raise GitResearchError(why, f"gitresearch reproduce {trial.short}")
        if trial.operator == "baseline":
            raise GitResearchError("every other outcome stands on the baseline's", "begin a study under another name")
        if is_revoked(mine):
            raise GitResearchError(
                f"it is taken back already: {mine.summary.reason}", f"gitresearch show {trial.short}"
            )
        return witness.revoked(mine, reason)

    def claim_due(self, *, ending: bool) -> str | None:
        """The keep whose claim is due: the head, if it has made none, every few keeps or at the end."""
        with self.lock:
            head = self.lineage.head
            if head is None or head.status != "keep" or self.study.decision.rule != "two-tier":
                return None
            mine = self.details.get(head.trial.oid)
            if mine is None or "claim" in mine.decision:
                return None
            last = max((str(o.decision.get("claim_at", "")) for o in self.details.values()), default="")
            keeps = sum(o.summary.status == "keep" and o.summary.at > last for o in self.details.values())
            return head.trial.oid if ending or keeps >= self.study.decision.every else None

    def publish_best(self) -> None:
        """Let `best/<study>` point at what the notes say is best; its reflog is the history of improvement."""
        best = self.lineage.best
        if best is not None and self.repo.best(self.study.name) != best.trial.oid:
            told = f"{best.status} {best.score:.6g}" if best.score is not None else best.status
            self.repo.set_best(self.study.name, best.trial.oid, told)

    def lease_seconds(self) -> float:
        """Longer than any assessment can take: a lease that lapsed under way would let another process begin it too."""
        seeds = self.study.seeds
        return (seeds.screen + max(seeds.head, seeds.gate)) * self.study.longest_run

    def _record(self, trial: Trial, runs: Sequence[Run], found: Verdict, result: RunResult) -> Outcome:
        """Make the outcome of a verdict and write it."""
        before = self.details.get(trial.oid)
        at = before.summary.at if before else now()
        words = {"confirmed": found.confirmed, "label": found.label, "reason": found.reason}
        outcome = Outcome(
            summary=summarise(found.status, self.study.objective.metric, runs, at, **words),
            runs=tuple(runs),
            failure=result.failure,
            decision=found.arithmetic,
            environment=result.environment,
            binding=result.binding,
        )
        return self._write(trial, outcome)

    def _write(self, trial: Trial, outcome: Outcome) -> Outcome:
        outcome = witness.onto(self.repo.outcomes(trial.oid).get(self.repo.evaluator_id()), outcome)
        self.repo.record(trial.oid, outcome)
        self._settle(trial, outcome)
        return outcome

    def _settle(self, trial: Trial, outcome: Outcome) -> None:
        with self.lock:
            self.add(trial)
            self.lineage.settle(trial.oid, outcome.summary)
            if _counts(trial, outcome.summary.status):
                self.details[trial.oid] = outcome
            else:
                self.details.pop(trial.oid, None)
        self.on_settled(trial, outcome)


def _counts(trial: Trial, status: str) -> bool:
    """Whether a trial's runs are needed again; the baseline's are even where one failed: the others stay made."""
    return status in ("baseline", "keep") or (trial.operator == "baseline" and status != "pending")


def _aborted(start: Start) -> Run:
    """The run that a start without a result stands for."""
    return Run(start.seed, start.purpose, "harness_abort", started=utc(start.time))


def _folded(outcome: Outcome) -> Outcome:
    """The outcome with its head folded anew from runs that were added to it."""
    head = outcome.summary
    words = {"confirmed": head.confirmed, "label": head.label, "reason": head.reason}
    words |= {"claimed": "claim" in outcome.decision}
    return replace(outcome, summary=summarise(head.status, head.metric, outcome.runs, head.at, **words))


def _failed(result: RunResult) -> Verdict:
    failure = result.failure or Failure("score", "unknown")
    line = failure.lines[-1] if failure.lines else failure.label
    what = f"{failure.label} in {failure.phase}"
    return Verdict(result.run.status, what if line == failure.label else f"{what}: {line}", failure.label)


def _cancelled(cancel: threading.Event | None, result: RunResult) -> bool:
    return cancel is not None and cancel.is_set() and result.run.status != "ok"
