"""A study open for work: what a run's result means, written down.

The lab holds the lineage in memory and the repository behind it, and turns runs into outcomes: calibrate the baseline,
assess a trial (screen, then fresh seeds if it earns them), claim the head. Every method leaves git in a state from
which another process can go on. A run is on record before it begins; one that a kill ended stays so, as
`harness_abort`, and is due again.
"""

import secrets
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from gitresearch import curves, decision, drift, holdout, looks, witness
from gitresearch.books import Books, folded
from gitresearch.curves import Bar, Experience
from gitresearch.decision import Reference, Verdict
from gitresearch.errors import GitResearchError
from gitresearch.evaluate import RunResult
from gitresearch.outcome import (
    DRIFT,
    HOLDOUT,
    REPRODUCE,
    RIVAL,
    TIMES,
    UNCONFIRMED,
    Failure,
    Outcome,
    Run,
    mean,
    now,
    summarise,
)
from gitresearch.repo import Repo
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


class Lab(Books):
    """A study that is worked on: its books, and an evaluator."""

    def __init__(self, repo: Repo, study: Study, base: str, runs: Runs) -> None:
        self.runs, self.experience = runs, Experience(study, repo.outcome)
        super().__init__(repo, study, base)

    def _run(
        self,
        trial: Trial,
        purpose: str,
        cancel: threading.Event | None,
        bar: Bar | None = None,
        of: Trial | None = None,
    ) -> RunResult:
        """One run on a seed drawn now: every run of the lab begins here, and is on record first. It is for the outcome
        of `trial`, and of that trial unless `of` is another."""
        seed = draw_seed()
        if bar is not None and seed % curves.CHECKED == 0:
            bar = replace(bar, let_on=True)
        self.repo.start(trial.oid, seed, purpose)
        result = self.runs.run(of or trial, seed, purpose, cancel, bar)
        return replace(result, run=replace(result.run, of=of.oid)) if of else result

    def calibrate(self, cancel: threading.Event | None = None) -> Outcome | None:
        """One more seed of the baseline, recorded at once. None where it was cancelled.

        A baseline that fails is recorded as what it is and raised: there is nothing to search from.
        """
        result = self._run(self.baseline, "baseline", cancel)
        if _cancelled(cancel, result):
            return None
        with self._books(self.baseline.oid) as before:
            runs = (*(before.runs if before else self._with_lost(self.baseline.oid, ())), result.run)
            beside = drift.facts(self.study, runs) | holdout.facts(self.study, runs)
            if result.failure or result.run.status != "ok":
                outcome = self._record(self.baseline, runs, replace(_failed(result), arithmetic=beside), result)
                raise GitResearchError(
                    f"the unchanged recipe fails: {outcome.headline.removeprefix('# ')}",
                    f"see gitresearch show {self.baseline.short}, mend the recipe, commit, and run again",
                )
            found = replace(decision.calibrated(self.study, runs), arithmetic=beside)
            outcome = self._record(self.baseline, runs, found, result)
            self.publish_best()
            return outcome

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
            return self._write(self.baseline, folded(replace(before, runs=runs, decision=found)))

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
            return self._write(trial, folded(replace(before, runs=runs, decision=made))), result.failure

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
        left = found.arithmetic.get("look_most", 0) - found.arithmetic.get("look_n", 0)
        return self._record(trial, _spared(runs, left), found, result)

    def _bar(self, trial: Trial, reference: Reference) -> Bar | None:
        """What a trial's first run has to be able to reach; None where only its end can tell."""
        if trial.operator == "replicate" or self.study.decision.rule != "two-tier":
            return None
        metric = self.study.objective.metric
        if metric in TIMES:
            return curves.time_bar(self.study, reference.score, reference.noise.get(metric, looks.UNKNOWN))
        with self.lock:
            past = [node.trial for node in self.lineage.recent(curves.RECENT) if node.trial.oid != trial.oid]
            trials = [one for one in past if one.operator not in ("baseline", "replicate")]
            pairs = [(one.oid, one.parents[0]) for one in trials]
            return self.experience.bar(trial.parents[0], pairs, reference.score)

    def confirm(self, oid: str, cancel: threading.Event | None = None) -> Outcome | None:
        """One more confirmation seed of a keep, behind one of its rival where they are interleaved; the last one
        decides the claim."""
        trial = self.lineage[oid].trial
        if self.study.decision.interleave and not self._run_rival(trial, cancel):
            return None
        result = self._run(trial, "confirm", cancel)
        if _cancelled(cancel, result):
            return None
        with self._books(oid) as before:
            if before is None:
                raise GitResearchError(f"the outcome of {oid[:8]} is gone", "gitresearch audit")
            runs = (*before.runs, result.run)
            # Our fault costs a keep nothing; and another slot's seed may have decided the claim while this one ran, or
            # failed and ended it.
            decided = "claim" in before.decision or before.summary.status != "keep"
            if result.run.status == "harness_abort" or decided:
                return self._write(trial, folded(replace(before, runs=runs)))
            if result.run.status != "ok":
                found = replace(_failed(result), label=UNCONFIRMED, arithmetic=before.decision)
                return self._record(trial, runs, found, result)
            metric = self.study.objective.metric
            head = replace(before, runs=runs, summary=summarise("keep", metric, runs, before.summary.at))
            rival, others = self._rivals(trial)
            if not decision.claim_due(self.study, head, rival, others):
                return self._write(trial, head)
            return self._claim(trial, head, rival, others)

    def _run_rival(self, trial: Trial, cancel: threading.Event | None) -> bool:
        """One run of what a keep's claim is made against, on record beside the claim's; False where it was cancelled.
        Whatever comes of it, the claim goes on."""
        result = self._run(trial, RIVAL, cancel, of=self.rival)
        if _cancelled(cancel, result):
            return False
        with self._books(trial.oid) as before:
            if before is not None:
                self._write(trial, folded(replace(before, runs=(*before.runs, result.run))))
        return True

    def _claim(self, trial: Trial, head: Outcome, rival: Outcome, others: Sequence[Outcome]) -> Outcome:
        found = decision.claim(self.study, head, rival, others, self.claims_made + 1, self.noise)
        head = replace(head, runs=_spared(head.runs, self.study.seeds.confirm - found.arithmetic["claim_n"]))
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

    def lease_seconds(self) -> float:
        """Longer than any assessment can take: a lease that lapsed under way would let another process begin it too."""
        seeds = self.study.seeds
        return (seeds.screen + max(seeds.head, seeds.gate)) * self.study.longest_run


def _spared(runs: Sequence[Run], left: int) -> tuple[Run, ...]:
    """The runs, the last with what the seeds would have taken that were not needed any more: `left` usual ones."""
    usual = [run.total_seconds for run in runs if run.status == "ok" and not run.of]
    if left <= 0 or not usual:
        return tuple(runs)
    return (*runs[:-1], replace(runs[-1], saved_seconds=round(left * mean(usual), 3), saved_by="look"))


def _failed(result: RunResult) -> Verdict:
    failure = result.failure or Failure("score", "unknown")
    line = failure.lines[-1] if failure.lines else failure.label
    what = f"{failure.label} in {failure.phase}"
    return Verdict(result.run.status, what if line == failure.label else f"{what}: {line}", failure.label)


def _cancelled(cancel: threading.Event | None, result: RunResult) -> bool:
    return cancel is not None and cancel.is_set() and result.run.status != "ok"
