"""A study's books: what its outcomes say, in memory and in git, and what is written into them.

Everything is read from git, and every method leaves git in a state from which another process can go on. What runs, and
when, is the lab's.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from gitresearch import drift, holdout, looks, witness
from gitresearch.decision import Reference, Verdict
from gitresearch.errors import GitResearchError
from gitresearch.evaluate import RunResult
from gitresearch.lineage import Lineage, Node
from gitresearch.noise import Spread
from gitresearch.outcome import (
    REPRODUCE,
    REVOKED,
    UNCONFIRMED,
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

WAITING = 64  # trials without an outcome that are looked past for those that have one


class Books:
    """One study: lineage and details of what counts (baseline and keeps), behind one lock."""

    def __init__(self, repo: Repo, study: Study, base: str) -> None:
        self.repo, self.study, self.base = repo, study, base
        self.lock = threading.RLock()
        self.details: dict[str, Outcome] = {}
        self.lineage = Lineage(study.objective)
        self._lost: Mapping[str, Sequence[Start]] = {}
        self._rolled_back: dict[str, str] = {}  # when each claim that was lost was made
        self.on_settled: Callable[[Trial, Outcome], None] = lambda _trial, _outcome: None
        self.reload()

    def reload(self) -> None:
        """Read everything from git again: what other processes wrote included."""
        with self.lock:
            self.lineage = Lineage.of(self.study.objective, self.repo.trials(self.study.name))
            for node in self.lineage:
                lost = node.summary is not None and node.summary.label == UNCONFIRMED
                if (lost or _counts(node.trial, node.status)) and (found := self.repo.outcome(node.trial.oid)):
                    self._remember(node.trial, found)
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
        lost = sum(node.summary.label in (UNCONFIRMED, REVOKED) for node in self.lineage if node.summary)
        return lost + sum("claim" in outcome.decision for outcome in self.details.values())

    def missing(self, oid: str, purpose: str, wanted: int = 0) -> int:
        """How many runs of a purpose (baseline or confirm) a trial still lacks, of the study's number or another."""
        done = self.details[oid].runs if oid in self.details else ()
        wanted = wanted or (self.study.seeds.baseline if purpose == "baseline" else self.study.seeds.confirm)
        return max(0, wanted - sum(run.purpose == purpose and run.status == "ok" for run in done))

    def drift_due(self) -> bool:
        """Whether the baseline is to be run again, to see whether it moved."""
        return drift.due(self.study, self.lineage, self.details.get(self.baseline.oid))

    def claim_due(self, *, ending: bool) -> str | None:
        """The keep whose claim is due: one that is under way, until it is decided, whatever its seeds make of its score
        (else the luckiest of several claims would be the one that is made); or the head, if it has made none, every few
        keeps, when none comes any more, or at the end."""
        with self.lock:
            head = self.lineage.head
            if self.study.decision.rule != "two-tier":
                return None
            if begun := next((oid for oid, one in self.details.items() if _under_way(one)), None):
                return begun
            if head is None or head.status != "keep":
                return None
            mine = self.details.get(head.trial.oid)
            if mine is None or "claim" in mine.decision:
                return None
            made = (str(one.decision.get("claim_at", "")) for one in self.details.values())
            last = max((*made, *self._rolled_back.values()), default="")
            keeps = sum(o.summary.status == "keep" and o.summary.at > last for o in self.details.values())
            due = ending or keeps >= self.study.decision.every or self._stalled(head, last)
            return head.trial.oid if due else None

    def _stalled(self, head: Node, last: str) -> bool:
        """Whether the latest trials were all measured after the head was kept, and the last claim made, and none was
        kept."""
        enough, since = self.study.decision.stall, max(last, head.summary.at if head.summary else "")
        latest = self.lineage.recent(enough + WAITING) if enough else []
        measured = [node for node in latest if node.summary][:enough]  # others are under way, or wait
        later = [node for node in measured if node.summary and node.summary.at >= since and node.status != "keep"]
        return bool(enough) and len(later) == enough

    def holdout_due(self) -> str | None:
        """The trial that is to be scored on the holdout next: the baseline first, then what was confirmed."""
        with self.lock:
            known = dict.fromkeys((self.baseline.oid, *self.details)) if self.study.seeds.holdout else {}
            return next((oid for oid in known if oid in self.details and self._unscored(oid)), None)

    def _unscored(self, oid: str) -> bool:
        return holdout.lacking(self.study, self.details[oid]) > 0

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

    def _scored(self, oid: str) -> Reference | None:
        """A trial's score as something to compare with."""
        with self.lock:
            summary = known.summary if (known := self.lineage.get(oid)) else None
        return Reference(oid[:8], summary.score, summary.n) if summary and summary.score is not None else None

    @property
    def rival(self) -> Trial:
        """What a claim is made against: the last confirmed trial, or the baseline."""
        with self.lock:
            best = self.lineage.best
        return best.trial if best else self.baseline

    def _rivals(self, trial: Trial) -> tuple[Outcome, list[Outcome]]:
        """The rival of a keep's claim, and what else is known of the noise."""
        rival = self.rival.oid
        return self.details[rival], [o for oid, o in self.details.items() if oid not in (trial.oid, rival)]

    @contextmanager
    def _books(self, oid: str) -> Iterator[Outcome | None]:
        """A trial's outcome as it stands now, the runs that were lost included. Nobody adds to it meanwhile: other
        processes may be at work on the same study."""
        with self.lock, self.repo.alone():
            self._catch_up()
            found = self.repo.outcome(oid)
            yield replace(found, runs=self._with_lost(oid, found.runs)) if found else None

    def _catch_up(self) -> None:
        """Learn what other processes wrote since: the number of a claim or of a query of the holdout is given once."""
        for record in self.repo.trials(self.study.name):
            known = self.lineage.get(record.trial.oid)
            if known is None or known.summary != record.summary:
                self.lineage.put(Node(record.trial, record.summary, record.broken))
                if record.summary and (found := self.repo.outcome(record.trial.oid)):
                    self._learn(record.trial, found)

    def _with_lost(self, oid: str, runs: Sequence[Run]) -> tuple[Run, ...]:
        """The runs, and after them those that were started by a process that is dead, and have no result."""
        known = {(run.seed, run.purpose) for run in runs}
        lost = [start for start in self._lost.get(oid, ()) if (start.seed, start.purpose) not in known]
        return (*runs, *(aborted(one) for one in lost if one.purpose != REPRODUCE))

    def _settle_lost(self) -> None:
        """Put the lost runs of trials that have an outcome on record; the others' come with theirs."""
        self._lost = self.repo.lost(self.study.longest_run)
        for oid in self._lost:
            if oid in self.lineage and self.lineage[oid].summary is not None:
                with self._books(oid) as found:
                    if found is not None and found != self.repo.outcome(oid):
                        self._write(self.lineage[oid].trial, folded(found))
                for one in self._lost[oid]:
                    if one.purpose == REPRODUCE:
                        with suppress(GitResearchError):  # what it looked at was taken back meanwhile
                            self._witness(self.lineage[oid].trial, RunResult(aborted(one)))

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

    def publish_best(self) -> None:
        """Let `best/<study>` point at what the notes say is best; its reflog is the history of improvement."""
        best = self.lineage.best
        if best is not None and self.repo.best(self.study.name) != best.trial.oid:
            told = f"{best.status} {best.score:.6g}" if best.score is not None else best.status
            self.repo.set_best(self.study.name, best.trial.oid, told)

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
            self._learn(trial, outcome)
        self.on_settled(trial, outcome)

    def _learn(self, trial: Trial, outcome: Outcome) -> None:
        self.lineage.settle(trial.oid, outcome.summary)
        self._remember(trial, outcome)

    def _remember(self, trial: Trial, outcome: Outcome) -> None:
        if outcome.summary.label == UNCONFIRMED:
            self._rolled_back[trial.oid] = str(outcome.decision.get("claim_at", ""))
        if _counts(trial, outcome.summary.status):
            self.details[trial.oid] = outcome
        else:
            self.details.pop(trial.oid, None)


def _counts(trial: Trial, status: str) -> bool:
    """Whether a trial's runs are needed again; the baseline's are even where one failed: the others stay made."""
    return status in ("baseline", "keep") or (trial.operator == "baseline" and status != "pending")


def _under_way(outcome: Outcome) -> bool:
    """Whether a claim has seeds and no verdict."""
    seeds = any(run.purpose == "confirm" and run.status == "ok" for run in outcome.runs)
    return seeds and outcome.summary.status == "keep" and "claim" not in outcome.decision


def aborted(start: Start) -> Run:
    """The run that a start without a result stands for."""
    return Run(start.seed, start.purpose, "harness_abort", started=utc(start.time))


def folded(outcome: Outcome) -> Outcome:
    """The outcome with its head folded anew from runs that were added to it."""
    head = outcome.summary
    words = {"confirmed": head.confirmed, "label": head.label, "reason": head.reason}
    words |= {"claimed": "claim" in outcome.decision}
    return replace(outcome, summary=summarise(head.status, head.metric, outcome.runs, head.at, **words))
