"""The loop over a real repository with a scripted evaluator: what is done next, and what survives an interruption."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import tomli

from gitresearch.agents import Proposal, ProposalFailed, Request, Usage
from gitresearch.audit.outcomes import Pins, check
from gitresearch.briefing import Briefing
from gitresearch.errors import GitResearchError
from gitresearch.lab import Lab
from gitresearch.lineage import Node
from gitresearch.loop import Loop, Plan, Report, Stop
from gitresearch.outcome import Outcome, mean
from gitresearch.policy import next_turn
from gitresearch.propose import Proposer
from gitresearch.repo import Repo
from gitresearch.spending import tally
from gitresearch.study import Study, load
from gitresearch.trial import Hypothesis, Trial
from tests.build import add_trial as make_trial
from tests.build import git, outcome, plain_repo
from tests.fakes import FakeAgent, FakeRuns

STUDY = """
name = "s"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[evaluator]
hook = "hook.py"
[seeds]
baseline = 3
head = 1
confirm = 3
[[specialists]]
name = "one"
surface = ["train.py"]
[[specialists]]
name = "two"
surface = ["train.py"]
"""


class Quiet:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.outcomes: list[tuple[str, str]] = []
        self.on_outcome: Callable[[], None] = lambda: None

    def proposed(self, trial: Trial) -> None: ...

    def settled(self, trial: Trial, outcome: Outcome) -> None:
        self.outcomes.append((trial.subject, outcome.summary.status))
        if outcome.summary.status != "baseline":
            self.on_outcome()

    def said(self, text: str) -> None:
        self.words.append(text)


@pytest.fixture
def study() -> Study:
    return load(STUDY)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repository with a recipe whose VALUE is 1.0, its study begun."""
    files = {"train.py": b"VALUE = 1.0\n", "study.toml": STUDY.encode(), "hook.py": b""}
    repo = Repo.open(plain_repo(tmp_path / "study", files), durable=False)
    repo.pin_study("s", repo.head_commit())
    return repo


def value_of(repo: Repo, trial: Trial) -> float:
    data = repo.read_file(trial.oid, "train.py") or b""
    return float(data.decode().split("=")[1])


def briefing(repo: Repo, study: Study) -> Briefing:
    return Briefing(repo, study, repo.study_base(study.name) or "")


def make_loop(
    repo: Repo,
    study: Study,
    values: list[float],
    *,
    runs: FakeRuns | None = None,
    stop: Stop | None = None,
    **plan: object,
) -> tuple[Loop, FakeRuns, Quiet]:
    rng = random.Random(1)
    runs = runs or FakeRuns(lambda trial, _seed, _purpose: value_of(repo, trial) + rng.gauss(0, 0.001))
    lab = Lab(repo, study, repo.study_base("s") or "", runs)
    proposer = Proposer(briefing(repo, study), FakeAgent(values))
    watcher = Quiet()
    return Loop(lab, proposer, Plan(**plan), stop or Stop(), watcher), runs, watcher  # type: ignore[arg-type]


def run_loop(repo: Repo, study: Study, values: list[float], **more: object) -> tuple[Loop, Report]:
    loop, _, _ = make_loop(repo, study, values, **more)  # type: ignore[arg-type]
    return loop, loop.run()


def test_the_loop_calibrates_searches_and_claims(repo: Repo, study: Study) -> None:
    """From nothing to a confirmed best: baseline seeds, trials by turns, keeps on fresh seeds, a claim at the end."""
    loop, report = run_loop(repo, study, [0.9, 1.2, 0.5, 0.8], trials=4)
    lineage = loop.lab.lineage

    assert report.why == "4 trials proposed"
    assert lineage.statuses() == {"baseline": 1, "keep": 2, "discard": 2}
    assert lineage.best is lineage.head
    assert lineage.best is not None
    assert lineage.best.summary is not None
    assert lineage.best.summary.confirmed
    assert repo.best("s") == lineage.best.trial.oid
    assert {node.trial.specialist for node in lineage} == {"baseline", "one", "two"}


@pytest.mark.parametrize(("shift", "ends"), [(0.0, "steady"), (0.5, "moved"), (0.0, "crash")])
def test_the_baseline_runs_again_to_see_whether_it_moved(repo: Repo, study: Study, shift: float, ends: str) -> None:
    """Once for every two trials here; told where it moved or failed, and never part of the score."""
    study = replace(study, decision=replace(study.decision, drift_every=2))
    rng = random.Random(1)

    def score(trial: Trial, _seed: int, purpose: str) -> float | str:
        if purpose == "drift" and ends == "crash":
            return ends
        return value_of(repo, trial) + rng.gauss(0, 0.001) + (shift if purpose == "drift" else 0.0)

    loop, runs, watcher = make_loop(repo, study, [1.1, 1.2, 1.3, 1.4, 1.5], runs=FakeRuns(score), trials=5)
    loop.run()
    outcome = loop.lab.details[loop.lab.baseline.oid]
    seeds = [run.metrics["loss"] for run in outcome.runs if run.purpose == "baseline"]

    assert [purpose for _, purpose in runs.history].count("drift") == 2
    assert (outcome.summary.status, outcome.summary.n, outcome.summary.score) == ("baseline", 3, mean(seeds))
    assert outcome.decision.get("drift_verdict", "crash") == ends
    assert len(watcher.words) == (0 if ends == "steady" else 2)
    assert all(("has moved: run again it gives 1.5" in word) or ("ended in crash" in word) for word in watcher.words)
    pins = Pins(repo.study_base("s") or "", "")
    wrong = [claim for claim, _ in check(study, loop.lab.baseline, outcome, pins) if claim[:8] != "measured"]
    assert wrong == []


def test_drift_can_be_left_out(repo: Repo, study: Study) -> None:
    """`drift_every = 0` never looks."""
    study = replace(study, decision=replace(study.decision, drift_every=0))
    loop, runs, _ = make_loop(repo, study, [1.1, 1.2], trials=2)
    loop.run()
    assert "drift" not in {purpose for _, purpose in runs.history}


def test_what_git_holds_is_what_the_loop_knew(repo: Repo, study: Study) -> None:
    """A fresh reader of the repository sees the same lineage as the loop had in memory."""
    loop, _ = run_loop(repo, study, [0.9, 1.2, 0.5], trials=3)

    again = Lab(Repo.open(repo.git_dir), study, repo.study_base("s") or "", loop.lab.runs)

    assert list(again.lineage) == list(loop.lab.lineage)
    assert again.details == loop.lab.details
    assert again.claims_made == loop.lab.claims_made


def test_every_failure_is_an_outcome(repo: Repo, study: Study) -> None:
    """A trial that crashes is recorded with its label and reason, and the search goes on from the head."""
    runs = FakeRuns(lambda trial, _seed, purpose: "crash" if value_of(repo, trial) > 2 else value_of(repo, trial))
    loop, _, watcher = make_loop(repo, study, [3.0, 0.5], runs=runs, trials=2)
    loop.run()

    assert ("set VALUE to 3", "crash") in watcher.outcomes
    crash = next(node for node in loop.lab.lineage if node.status == "crash")
    assert crash.summary is not None
    assert (crash.summary.label, "the decisive line" in crash.summary.reason) == ("Scripted", True)


def test_a_failing_baseline_ends_the_run_with_its_reason(repo: Repo, study: Study) -> None:
    """There is nothing to search from where the recipe itself fails; the error says what failed and what to type."""
    loop, _, _ = make_loop(repo, study, [0.5], runs=FakeRuns(lambda *_: "crash"), trials=1)

    with pytest.raises(GitResearchError, match="the unchanged recipe fails: crash"):
        loop.run()


def test_a_second_run_goes_on(repo: Repo, study: Study) -> None:
    """A run that starts again calibrates nothing anew, evaluates nothing twice and adds to the same lineage."""
    run_loop(repo, study, [0.9, 0.8], trials=2)
    runs = FakeRuns(lambda trial, _seed, _purpose: value_of(repo, trial))

    loop, report = run_loop(repo, study, [0.7], trials=1, runs=runs)

    assert report.proposed == 1
    assert not [oid for oid, purpose in runs.history if purpose == "baseline"]
    assert {oid for oid, purpose in runs.history if purpose == "screen"} == {loop.lab.lineage.recent(1)[0].trial.oid}


def test_a_total_is_the_studys_not_the_runs(repo: Repo, study: Study) -> None:
    """A study's own trial budget counts what earlier runs made."""
    run_loop(repo, study, [0.9, 0.8], total=2)
    _, report = run_loop(repo, study, [0.7, 0.6], total=3)

    assert (report.proposed, report.why) == (1, "the study's 3 trials are made")


def test_asked_once_it_finishes_what_runs(repo: Repo, study: Study) -> None:
    """One ^C lets the running trial end and be recorded, and starts nothing new."""
    stop = Stop()
    runs = FakeRuns(lambda trial, _seed, _purpose: (stop.ask() if value_of(repo, trial) == 0.9 else None) or 0.9)

    loop, report = run_loop(repo, study, [0.9, 0.8], trials=2, stop=stop, runs=runs)

    assert report.why == "stopped"
    assert loop.lab.lineage.statuses()["keep"] + loop.lab.lineage.statuses()["discard"] == 1
    assert not loop.lab.lineage.pending()


def test_asked_twice_it_cancels_and_the_trial_waits(repo: Repo, study: Study) -> None:
    """A second ^C ends the run at once; the trial has no outcome, no claim is left, and the next run evaluates it."""
    stop = Stop()

    def score(trial: Trial, _seed: int, _purpose: str) -> float:
        if value_of(repo, trial) == 0.9 and not stop.asked:
            stop.ask()
            stop.ask()
            return "harness_abort"  # type: ignore[return-value]
        return value_of(repo, trial)

    loop, _ = run_loop(repo, study, [0.9], trials=1, stop=stop, runs=FakeRuns(score))
    assert [node.trial.subject for node in loop.lab.lineage.pending()] == ["set VALUE to 0.9"]
    assert not repo.claims("s")

    again, _ = run_loop(repo, study, [], trials=0, runs=FakeRuns(score))
    assert again.lab.lineage.statuses()["keep"] == 1


def test_the_same_files_are_not_evaluated_twice(repo: Repo, study: Study) -> None:
    """A tree that was tried before is found before a run is spent on it."""
    loop, report = run_loop(repo, study, [0.9, 0.9, 1.0, 0.8], trials=2)

    assert report.proposed == 2
    assert sorted(node.trial.subject for node in loop.lab.lineage)[1:] == ["set VALUE to 0.8", "set VALUE to 0.9"]


def test_what_another_clone_measured_under_another_name_is_left(repo: Repo, study: Study) -> None:
    """Of two trials with the same files one is evaluated; the other waits, unless it is there to be measured again."""
    run_loop(repo, study, [0.9], trials=1)
    known = next(record.trial for record in repo.trials("s") if record.trial.subject == "set VALUE to 0.9")
    edits = {"train.py": repo.read_file(known.oid, "train.py")}
    told = {"study": "s", "specialist": "one"}
    twin = make_trial(repo, "thought of elsewhere", known.parents, edits, **told)
    again = make_trial(repo, "measure it again", [known], edits, operator="replicate", **told)
    loop, runs, _ = make_loop(repo, study, [], trials=0)
    loop.run()
    assert twin.tree == again.tree == known.tree
    assert loop.lab.lineage.twin(twin) == loop.lab.lineage[known.oid]
    assert {oid for oid, purpose in runs.history if purpose == "screen"} == {again.oid}


def test_a_head_that_holds_everything_up_makes_its_claim(repo: Repo, study: Study) -> None:
    """Where no trial is kept any more a lucky head is measured again before the end, and rolled back: what was held up
    by it is found."""
    asked = replace(study, decision=replace(study.decision, stall=3, every=9))
    lucky = {("head", 0.9): 0.2}

    def score(trial: Trial, _seed: int, purpose: str) -> float:
        value = value_of(repo, trial)
        return lucky.get((purpose, value), 0.2 if (purpose, value) == ("screen", 0.9) else value + 0.2 * (value == 0.9))

    loop, runs, watcher = make_loop(repo, asked, [0.9, 0.81, 0.82, 0.83, 0.7], runs=FakeRuns(score), trials=5)
    loop.run()
    order = [(value_of(repo, loop.lab.lineage[oid].trial), purpose) for oid, purpose in runs.history]
    assert order.index((0.9, "confirm")) == order.index((0.83, "screen")) + 1
    assert ("set VALUE to 0.7", "keep") in watcher.outcomes
    assert loop.lab.lineage.statuses()["keep"] == 1


@dataclass
class Intruder(FakeAgent):
    """An agent that edits what is not its to edit, besides what is."""

    extra: Mapping[str, bytes | None] = field(default_factory=dict)

    def propose(self, request: Request) -> Proposal:
        proposal = super().propose(request)
        return replace(proposal, edits={**proposal.edits, **self.extra})


@pytest.mark.parametrize("extra", [{"hook.py": b"cheat"}, {"study.toml": b""}, {"hook.py": None}, {"new.py": b"1\n"}])
def test_an_edit_outside_the_surface_never_becomes_a_trial(
    repo: Repo, study: Study, extra: Mapping[str, bytes | None]
) -> None:
    """The hook, the study, a deletion, a new file: a proposal that leaves its surface makes no commit and no branch."""
    loop, runs, watcher = make_loop(repo, study, [], trials=2)
    loop.proposer = Proposer(briefing(repo, study), Intruder([0.5 + n / 100 for n in range(18)], extra=extra))
    loop.run()

    assert [record.trial.operator for record in repo.trials("s")] == ["baseline"]
    assert {purpose for _, purpose in runs.history} == {"baseline"}
    assert all("outside the surface" in text for text in watcher.words)
    assert len(watcher.words) == 2 * study.agent.patience


def test_what_another_process_evaluated_is_taken_over(repo: Repo, study: Study) -> None:
    """A trial that got its outcome after this process last looked is not run again: the outcome is read instead."""
    first, _ = run_loop(repo, study, [0.9, 0.8], trials=2)
    late = first.lab.lineage.recent(1)[0]
    runs = FakeRuns(lambda *_: pytest.fail("it was run again"))
    other = Lab(Repo.open(repo.git_dir), study, repo.study_base("s") or "", runs)
    other.lineage.put(Node(late.trial))  # as it looked before the first process wrote

    outcome = other.assess(late.trial)

    assert outcome == repo.outcome(late.trial.oid)
    assert other.lineage[late.trial.oid] == late
    assert not runs.history


def test_slots_run_at_once(repo: Repo, study: Study) -> None:
    """Two jobs run two trials at a time, and no more."""
    runs = FakeRuns(lambda trial, _seed, _purpose: value_of(repo, trial), seconds=0.05)

    run_loop(repo, study, [0.9, 0.8, 0.7, 0.6], trials=4, jobs=2, runs=runs)

    assert runs.most_at_once == 2


def test_no_edit_left_ends_the_run(repo: Repo, study: Study) -> None:
    """When no specialist finds an edit the run ends and says so, instead of asking for ever."""
    loop, report = run_loop(repo, study, [], trials=5)

    assert report.why == "no specialist finds a new edit"
    assert report.unproposed == 2 * study.agent.patience
    assert len(loop.lab.lineage) == 1


def test_a_broken_evaluator_stops_the_run(repo: Repo, study: Study) -> None:
    """Our own fault three times in a row ends the run; no trial is blamed for it."""
    runs = FakeRuns(lambda trial, _s, purpose: 1.0 if purpose == "baseline" else "harness_abort")
    loop, _, _ = make_loop(repo, study, [0.9, 0.8, 0.7, 0.6], runs=runs, trials=4)

    with pytest.raises(GitResearchError, match="the evaluator itself failed 3 times"):
        loop.run()


def test_a_lucky_head_is_rolled_back(repo: Repo, study: Study) -> None:
    """A keep that its confirmation seeds don't bear out loses its place, and best stays at the baseline."""
    scores = {"baseline": 1.0, "screen": 0.8, "head": 0.8, "confirm": 1.1}
    runs = FakeRuns(lambda _trial, seed, purpose: scores[purpose] + seed % 7 * 1e-3)

    loop, _ = run_loop(repo, study, [0.9], trials=1, runs=runs)

    assert loop.lab.lineage.statuses() == {"baseline": 1, "discard": 1}
    assert repo.best("s") == loop.lab.baseline.oid
    assert loop.lab.claims_made == 1


KILLED = """
import sys, time
sys.path[:0] = {paths!r}
from pathlib import Path
from gitresearch.repo import Repo
from gitresearch.study import load
from tests.test_loop import STUDY, make_loop, untried, value_of
from tests.fakes import FakeRuns
repo = Repo.open(Path({top!r}))
runs = FakeRuns(lambda trial, seed, purpose: value_of(repo, trial) + seed % 7 * 1e-4, seconds=0.03)
loop, _, _ = make_loop(repo, load(STUDY), untried(repo, {values!r}), runs=runs, total={total}, jobs=2)
loop.run()
"""


def untried(repo: Repo, values: list[float]) -> list[float]:
    """The values that no trial of the study has set yet."""
    known = {record.trial.subject for record in repo.trials("s")}
    return [value for value in values if f"set VALUE to {value:g}" not in known]


@pytest.mark.slow
def test_kill_nine_loses_nothing(repo: Repo, study: Study) -> None:
    """A loop killed again and again at random moments ends with every trial evaluated once, and no lock in the way."""
    values = [round(0.9 - 0.01 * i, 2) for i in range(12)]
    rng = random.Random(3)
    here = str(Path(__file__).resolve().parents[1])
    for attempt in range(8):
        script = KILLED.format(paths=[here], top=str(repo.git_dir.parent), values=values, total=12)
        process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": here})
        time.sleep(0.45 + rng.random() * 0.5)
        if attempt < 7:
            process.kill()
            process.wait()
        elif process.wait(60):
            pytest.fail("the last run failed")

    fresh = Repo.open(repo.git_dir)
    fresh.clear_stale_locks()
    loop, _ = run_loop(fresh, study, untried(fresh, values), total=12)

    assert len(loop.lab.lineage) == 13
    assert not loop.lab.lineage.pending()
    assert subprocess.run(["git", "--git-dir", str(repo.git_dir), "fsck", "--strict"], check=False).returncode == 0


@dataclass
class Failing(FakeAgent):
    """Raises what the script holds, in order, before it proposes from the queue."""

    script: list[ProposalFailed] = field(default_factory=list)

    def propose(self, request: Request) -> Proposal:
        if self.script:
            raise self.script.pop(0)
        return replace(super().propose(request), usage=Usage(1, 1000, 0, 100, 0, 0.5))


def failing_loop(
    repo: Repo, study: Study, values: list[float], script: list[ProposalFailed], **plan: object
) -> tuple[Loop, Quiet]:
    loop, _, watcher = make_loop(repo, study, [], **plan)
    loop.proposer = Proposer(briefing(repo, study), Failing(values, script=script))
    return loop, watcher


def test_an_outage_pauses_proposing_and_nothing_else(repo: Repo, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the agent's server is out the loop waits, twice as long each time, evaluates what is there, and goes on
    with every specialist when it is back."""
    monkeypatch.setattr("gitresearch.loop.PAUSE_SECONDS", 0.02)
    out = [ProposalFailed("the server can't be reached", fault="outage") for _ in range(4)]
    loop, watcher = failing_loop(repo, study, [0.9, 0.8], out, trials=2)
    began = time.monotonic()
    report = loop.run()

    assert (report.proposed, report.unproposed, report.why) == (2, 4, "2 trials proposed")
    assert time.monotonic() - began > 0.02 + 0.04 + 0.08 + 0.16
    assert [text.rpartition("in ")[2] for text in watcher.words] == ["0.02 s", "0.04 s", "0.08 s", "0.16 s"]


@dataclass
class Together(Failing):
    """Its two first calls fail at the same moment."""

    reads_lineage: bool = False
    both: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))

    def propose(self, request: Request) -> Proposal:
        if self.script:
            self.both.wait(10)
        return super().propose(request)


def test_one_outage_is_one_pause_for_all_calls(repo: Repo, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that fail side by side wait together: the pause doesn't double with each of them."""
    monkeypatch.setattr("gitresearch.loop.PAUSE_SECONDS", 0.3)
    loop, watcher = failing_loop(repo, study, [], [], trials=2, jobs=2)
    out = [ProposalFailed("the server can't be reached", fault="outage") for _ in range(2)]
    loop.proposer = Proposer(briefing(repo, study), Together([0.9, 0.8], script=out))
    report = loop.run()

    assert (report.proposed, report.unproposed) == (2, 2)
    pauses = [float(text.rpartition("in ")[2].removesuffix(" s")) for text in watcher.words]
    assert len(pauses) == 2
    assert max(pauses) < 0.45


def test_an_outage_loses_no_evaluation(repo: Repo, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that waits gets its outcome while proposing is paused."""
    monkeypatch.setattr("gitresearch.loop.PAUSE_SECONDS", 5.0)
    made, _ = make_trial_without_outcome(repo, study)
    stop = Stop()
    loop, watcher = failing_loop(repo, study, [], [ProposalFailed("out", fault="outage")] * 9, trials=2)
    loop.stop, watcher.on_outcome = stop, stop.ask
    loop.run()

    assert repo.outcome(made.oid) is not None


def make_trial_without_outcome(repo: Repo, study: Study) -> tuple[Trial, Proposer]:
    lab = Lab(repo, study, repo.study_base("s") or "", FakeRuns(lambda *_: 1.0))
    lab.calibrate()
    proposer = Proposer(briefing(repo, study), FakeAgent([0.9]))
    turn = next_turn(study, lab.lineage, {}, set(), 0)
    assert turn is not None
    return proposer.answer(lab.lineage, proposer.request(lab.lineage, turn))[0], proposer


def test_a_mistake_in_the_set_up_ends_the_run(repo: Repo, study: Study) -> None:
    """A refused key is not asked with again: proposing ends, and the error is the report's to raise."""
    refused = ProposalFailed("the key is refused", "export KEY=…", fault="setup")
    loop, watcher = failing_loop(repo, study, [0.9], [refused], trials=2)
    report = loop.run()

    assert (report.proposed, report.unproposed, report.broken) == (0, 1, refused)
    assert watcher.words == ["the key is refused; export KEY=…"]


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        ({"dollars": 1.0}, "1.00 of 1.00 dollars are spent"),
        ({"tokens": 2000}, "2,200 of 2,000 tokens are spent"),
        ({"tokens": 2000, "before": Usage(tokens_in=950)}, "2,050 of 2,000 tokens are spent"),
        ({"dollars": 3.0, "before": Usage(dollars=2.75)}, "3.25 of 3.00 dollars are spent"),
    ],
)
def test_a_cap_stops_proposing(repo: Repo, study: Study, plan: dict[str, object], why: str) -> None:
    """Dollars and tokens end the proposing cleanly once they are spent; what the study spent before counts too."""
    loop, _ = failing_loop(repo, study, [0.9, 0.8, 0.7, 0.6], [], **plan)
    report = loop.run()

    assert report.why == why
    assert not loop.lab.lineage.pending()


def test_a_turn_without_an_edit_is_on_record_with_its_cost(repo: Repo, study: Study) -> None:
    """What it cost, why it came to nothing and what was said stand in a note, once, and nobody takes it for a trial."""
    costly = ProposalFailed("no edit", usage=Usage(2, 500, 0, 50, 0, 0.25, repairs=1), transcript="I can't")
    free = ProposalFailed("nothing to try")
    loop, _ = failing_loop(repo, study, [0.9], [costly, free], trials=1)
    loop.run()
    found = tally(repo.proposals(), "s")
    documents = [tomli.loads(note.decode()) for note in repo.proposals().values()]

    (failed,) = [document for document in documents if "failed" in document]
    assert (failed["failed"], repo.blob(failed["transcript"])) == ("no edit", b"I can't")
    assert (found.total.trials, found.total.failed) == (1, 1)
    assert (found.total.usage.dollars, found.total.usage.tokens) == (0.75, 1650)
    assert len(repo.trials("s")) == 2
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""


@dataclass
class Tired(FakeAgent):
    """Repeats a known edit, then refuses; each call costs."""

    def propose(self, request: Request) -> Proposal:
        if request.again:
            raise ProposalFailed("I refuse", usage=Usage(1, 10, 0, 1))
        return replace(super().propose(request), usage=Usage(1, 100, 0, 10))


def test_what_the_first_tries_cost_is_not_lost_with_the_last(repo: Repo, study: Study) -> None:
    """An agent that repeats itself and then refuses is charged for both calls."""
    loop, _, _ = make_loop(repo, study, [], trials=1)
    loop.proposer = Proposer(briefing(repo, study), Tired([1.0]))  # the baseline's own value: changes nothing
    report = loop.run()

    assert (report.usage.calls, report.usage.tokens) == (2, 121)
    assert tally(repo.proposals(), "s").total.usage.tokens == 121


def test_merges_that_come_to_nothing_are_not_drawn_again(
    repo: Repo, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that can't resolve a conflict is offered the pair once; no specialist is tired for it, and the search
    goes on."""
    monkeypatch.setattr("gitresearch.policy.OPERATORS", {"improve": 1e-9, "repair": 1e-9, "combine": 1e9, "ablate": 1})
    lab = Lab(repo, study, repo.study_base("s") or "", FakeRuns(lambda trial, *_: value_of(repo, trial)))
    for _ in range(study.seeds.baseline):
        lab.calibrate()
    for value in (0.8, 0.9):  # beside each other, on the baseline
        hypothesis = Hypothesis(f"set VALUE to {value}", "s", "one")
        trial = repo.make_trial(hypothesis, [lab.baseline.oid], {"train.py": f"VALUE = {value}\n".encode()})
        repo.record(trial.oid, outcome(value, "keep"))
    loop, _, watcher = make_loop(repo, study, [0.7], trials=1)
    report = loop.run()

    assert [text for text in watcher.words if "conflict in train.py" in text] == watcher.words[:1]
    assert (report.proposed, report.unproposed) == (1, len(watcher.words))
    assert loop.state.fruitless.total() == 0
    assert loop.state.begun
