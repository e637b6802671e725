"""The lab's books: whatever ends a run, the runs that were made stay, and our own fault costs a trial nothing."""

from pathlib import Path

import pytest

from gitresearch.audit.outcomes import Pins, check
from gitresearch.errors import GitResearchError
from gitresearch.lab import Lab
from gitresearch.outcome import Outcome
from gitresearch.repo import Repo
from gitresearch.study import load
from gitresearch.trial import Trial
from tests.build import STUDY, add_trial, study_repo
from tests.fakes import FakeRuns

QUESTION = load("""
name = "demo"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[evaluator]
pattern = "loss: (.*)"
[seeds]
baseline = 2
head = 1
confirm = 2
[[specialists]]
name = "optimizer"
surface = ["train.py"]
""")


class Script:
    """Scores, or ways to fail, one after another."""

    def __init__(self, *found: float | str) -> None:
        self.found = list(found)

    def __call__(self, trial: Trial, seed: int, purpose: str) -> float | str:
        return self.found.pop(0)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return study_repo(tmp_path / "repo")


def lab(repo: Repo, *found: float | str) -> Lab:
    """A lab that was opened just now."""
    return Lab(repo, QUESTION, repo.study_base(STUDY) or "", FakeRuns(Script(*found)))


def calibrated(repo: Repo) -> None:
    made = lab(repo, 2.0, 2.1)
    made.calibrate()
    made.calibrate()


def of(repo: Repo, oid: str) -> Outcome:
    found = repo.outcome(oid)
    assert found is not None
    return found


def test_a_baseline_keeps_its_runs_through_a_fault_of_ours(repo: Repo) -> None:
    """The good seed stays though the next one was aborted and the process began anew: nobody draws another for it."""
    first = lab(repo, 2.0, "harness_abort")
    first.calibrate()
    with pytest.raises(GitResearchError, match="the unchanged recipe fails"):
        first.calibrate()
    again = lab(repo, 2.1)
    assert again.missing(again.baseline.oid, "baseline") == 1
    again.calibrate()
    outcome = of(repo, again.baseline.oid)
    assert [run.status for run in outcome.runs] == ["ok", "harness_abort", "ok"]
    assert (outcome.summary.status, outcome.summary.score, outcome.summary.n) == ("baseline", 2.05, 2)


def test_an_aborted_assessment_is_made_again_and_stays_on_record(repo: Repo) -> None:
    """The run that we ended is in the outcome and doesn't count; the trial is judged on the runs that follow."""
    calibrated(repo)
    trial = add_trial(repo, "try")
    aborted = lab(repo, "harness_abort").assess(trial)
    assert aborted is not None
    assert aborted.summary.status == "harness_abort"
    made = lab(repo, 3.0).assess(trial)
    assert made is not None
    assert [run.status for run in made.runs] == ["harness_abort", "ok"]
    assert (made.summary.status, made.summary.score) == ("discard", 3.0)


def test_an_assessment_goes_on_where_our_own_fault_ended_it(repo: Repo) -> None:
    """A screening run that was measured is not drawn again, and counts as it would have; the outcome bears an audit."""
    calibrated(repo)
    trial = add_trial(repo, "try")
    lab(repo, 1.0, "harness_abort").assess(trial)
    made = lab(repo, 1.2).assess(trial)
    assert made is not None
    assert [(run.purpose, run.status) for run in made.runs] == [
        ("screen", "ok"), ("head", "harness_abort"), ("head", "ok"),
    ]  # fmt: skip
    assert (made.summary.status, made.summary.score) == ("keep", 1.2)
    pins = Pins(repo.study_base(STUDY) or "", "")
    wrong = [claim for claim, _ in check(QUESTION, trial, made, pins) if not claim.startswith("measured for")]
    assert wrong == []


def test_an_aborted_confirmation_costs_a_keep_nothing(repo: Repo) -> None:
    """It stays what it was, with the aborted run on record, and the claim is made on as many seeds as ever."""
    calibrated(repo)
    trial = add_trial(repo, "try")
    made = lab(repo, 1.0, 1.0, 1.1, "harness_abort", 1.0)
    made.assess(trial)
    for _ in range(2):
        made.confirm(trial.oid)
    assert of(repo, trial.oid).summary.status == "keep"
    assert "claim" not in of(repo, trial.oid).decision
    made.confirm(trial.oid)
    outcome = of(repo, trial.oid)
    assert [run.status for run in outcome.runs] == ["ok", "ok", "ok", "harness_abort", "ok"]
    assert outcome.decision["claim_n"] == 2
