"""A second look: who measures again changes nothing that was found, and what is taken back stays on record."""

import threading
from dataclasses import replace

import pytest

from gitresearch.audit import outcomes, witnesses
from gitresearch.audit.outcomes import Pins
from gitresearch.errors import GitResearchError
from gitresearch.lab import Lab
from gitresearch.outcome import Outcome, after, is_witness, now
from gitresearch.repo import Repo
from gitresearch.trial import Trial
from tests.build import STUDY, add_trial, git
from tests.fakes import FakeRuns
from tests.test_lab import QUESTION, Script, calibrated, killed, lab, of, repo

__all__ = ["repo"]


def measured(repo: Repo, *scores: float) -> Trial:
    """A trial of a calibrated study (2.0, 2.1) with these scores: one screening run, one fresh."""
    calibrated(repo)
    trial = add_trial(repo, "try")
    assert lab(repo, *scores).assess(trial) is not None
    return trial


def other(repo: Repo) -> Repo:
    """The same repository as another evaluator has it."""
    git(repo, "config", "gitresearch.evaluator", "other-1234abcd")
    return Repo.open(repo.git_dir, durable=False)


def again(repo: Repo, trial: Trial, *found: float | str) -> Outcome:
    outcome = lab(repo, *found).reproduce(trial, len(found))
    assert outcome is not None
    return outcome


def wrong(repo: Repo, trial: Trial, *said: Outcome) -> list[str]:
    """What an audit doubts in what one evaluator said of a trial."""
    pins = Pins(repo.study_base(STUDY) or "", "")
    found = (*outcomes.check(QUESTION, trial, said[-1], pins), *witnesses.check(QUESTION, trial, said))
    return [claim for claim, _ in found if not claim.startswith("measured for")]


def test_who_measured_a_trial_adds_runs_to_its_outcome(repo: Repo) -> None:
    """The head is what it was; beside the runs stand both scores, their test and what it says."""
    trial = measured(repo, 1.0, 1.2)
    before = of(repo, trial.oid)
    outcome = again(repo, trial, 1.25, 1.2)

    assert of(repo, trial.oid) == outcome
    assert outcome.summary == before.summary
    assert [run.purpose for run in outcome.runs] == ["screen", "head", "reproduce", "reproduce"]
    facts = outcome.decision
    assert (facts["reproduced_claim"], facts["reproduced_n"], facts["reproduced_verdict"]) == (1.2, 2, "agrees")
    assert facts["reproduced_score"] == pytest.approx(1.225)
    assert wrong(repo, trial, before, outcome) == []


def test_a_score_that_does_not_come_again_differs(repo: Repo) -> None:
    """Far outside the spread of baseline and witness; the keep stays a keep."""
    trial = measured(repo, 0.1, 0.1)
    outcome = again(repo, trial, 2.05, 2.0, 2.1, 2.05)

    assert (outcome.summary.status, outcome.decision["reproduced_verdict"]) == ("keep", "differs")


def test_another_evaluator_says_so_in_an_outcome_of_its_own(repo: Repo) -> None:
    """It comes second and counts for nothing; of a keep it makes none, of the baseline a baseline."""
    trial = measured(repo, 1.0, 1.2)
    theirs = other(repo)
    outcome = again(theirs, trial, 1.25, 1.15)
    first, mine = theirs.outcomes(trial.oid).values()

    assert mine == outcome
    assert (first.summary.status, outcome.summary.status, outcome.summary.label) == ("keep", "discard", "witness")
    assert outcome.summary.score == pytest.approx(1.2)
    assert outcome.environment["trust"] == "reproduced"
    assert outcome.summary.reason.startswith("agrees: 1.2 on 2 fresh seeds, claimed keep 1.2 on 1, p = ")
    assert of(theirs, trial.oid) == first
    opened = lab(theirs, 2.0)
    assert opened.lineage.head is not None
    assert opened.lineage.head.trial == trial
    opened.reproduce(opened.baseline, 1)
    assert theirs.outcomes(opened.baseline.oid)["other-1234abcd"].summary.status == "baseline"
    assert wrong(theirs, trial, outcome) == []


def test_a_witness_comes_second_whatever_its_clock_says(repo: Repo) -> None:
    """An outcome from a clock that is ahead still counts: the witness is put a second after it."""
    trial = measured(repo, 1.0, 1.2)
    ahead = of(repo, trial.oid)
    repo.record(trial.oid, replace(ahead, summary=ahead.summary._replace(at="2126-01-01T00:00:00Z")))
    outcome = again(other(repo), trial, 1.2)

    assert outcome.summary.at == "2126-01-01T00:00:01Z"
    assert after("9999-12-31T23:59:59Z") <= now()
    assert after("no time") <= now()


def test_a_failure_is_told_and_ends_it(repo: Repo) -> None:
    """A keep that crashes now failed, with why; further seeds are not spent on it. A crash that crashes agrees."""
    trial = measured(repo, 1.0, 1.2)
    made = lab(repo, "crash", 1.0)
    outcome = made.reproduce(trial, 2)
    assert outcome is not None
    assert (outcome.summary.status, outcome.decision["reproduced_verdict"]) == ("keep", "failed")
    assert outcome.decision["reproduced_why"] == "Scripted in train"
    broken = add_trial(repo, "break it")
    crashed = lab(repo, "crash").assess(broken)
    assert crashed is not None
    seen = again(repo, broken, "crash")
    assert (seen.summary.n, seen.decision["reproduced_verdict"]) == (1, "agrees")
    theirs = again(other(repo), broken, "crash")
    assert (theirs.summary.status, theirs.summary.label) == ("crash", "Scripted")
    assert wrong(repo, broken, crashed, seen) == wrong(repo, broken, theirs) == []


def test_our_own_fault_says_nothing_and_stays_on_record(repo: Repo) -> None:
    """An aborted run is kept; the next look goes on from it."""
    trial = measured(repo, 1.0, 1.2)
    assert "reproduced_verdict" not in again(repo, trial, "harness_abort").decision
    outcome = again(repo, trial, 1.2)
    assert [run.status for run in outcome.runs[2:]] == ["harness_abort", "ok"]
    assert outcome.decision["reproduced_n"] == 1


def test_a_killed_witness_leaves_its_run_on_record(repo: Repo) -> None:
    """Whoever opens the study next writes it down, once: in the outcome of who measured, else in one of its own."""
    trial = measured(repo, 1.0, 1.2)
    killed(repo, trial, "reproduce")
    lab(repo)
    assert [(run.purpose, run.status) for run in of(repo, trial.oid).runs[2:]] == [("reproduce", "harness_abort")]
    assert again(repo, trial, 1.2).decision["reproduced_n"] == 1
    theirs = other(repo)
    killed(theirs, trial, "reproduce", 8)
    for _ in range(2):
        lab(theirs)
        mine = theirs.outcomes(trial.oid)["other-1234abcd"]
        assert [(run.seed, run.status) for run in mine.runs] == [(8, "harness_abort")]
    assert (mine.summary.status, mine.summary.label) == ("harness_abort", "witness")
    assert [run.status for run in again(theirs, trial, 1.2).runs] == ["harness_abort", "ok"]
    assert lab(theirs).lineage[trial.oid].status == "keep"
    assert theirs.lost(QUESTION.longest_run) == {}


@pytest.mark.parametrize(("scores", "status"), [((3.0,), "discard"), (("harness_abort",), "harness_abort")])
def test_there_must_be_something_to_look_at_again(repo: Repo, scores: tuple[float | str], status: str) -> None:
    """A trial without an outcome, one that we ended and one that was taken back claim nothing."""
    calibrated(repo)
    trial = add_trial(repo, "try")
    with pytest.raises(GitResearchError, match="no outcome to reproduce"):
        lab(repo, 1.0).reproduce(trial, 1)
    lab(repo, *scores).assess(trial)
    if status == "discard":
        lab(repo).revoke(trial, "the disk was full")
    with pytest.raises(GitResearchError, match=r"took its outcome|no outcome to reproduce"):
        lab(repo, 1.0).reproduce(trial, 1)
    with pytest.raises(GitResearchError, match=r"invalid|no outcome to reproduce"):
        lab(other(repo), 1.0).reproduce(trial, 1)


def test_one_trial_is_looked_at_by_one_process(repo: Repo) -> None:
    """Whoever comes second is told, and no run is made."""
    trial = measured(repo, 1.0, 1.2)
    claim = repo.claim(STUDY, trial.oid, 60)
    assert claim is not None
    with claim:
        assert lab(repo, 1.0).reproduce(trial, 1) is None
    cancel = threading.Event()
    cancel.set()
    assert Lab(repo, QUESTION, repo.study_base(STUDY) or "", FakeRuns(Script(1.0), 1.0)).reproduce(
        trial, 1, cancel
    ) is None  # fmt: skip


def test_a_claim_made_beside_a_witness_loses_none_of_its_runs(repo: Repo) -> None:
    """A loop that had the keep in memory before the witness came writes its confirmation onto what is there then."""
    trial = measured(repo, 1.0, 1.2)
    loop = lab(repo, 1.2, 1.2)
    first, seen = of(repo, trial.oid), again(repo, trial, 1.2)
    loop.confirm(trial.oid)
    loop.confirm(trial.oid)
    outcome = of(repo, trial.oid)

    assert [run.purpose for run in outcome.runs] == ["screen", "head", "reproduce", "confirm", "confirm"]
    assert outcome.summary.confirmed
    assert outcome.decision["reproduced_verdict"] == "agrees"
    assert outcome.summary.score == pytest.approx(1.2)
    assert wrong(repo, trial, first, seen, outcome) == []


def test_a_witness_may_go_on_with_the_study(repo: Repo) -> None:
    """A second evaluator that confirms the keep it looked at keeps its first runs on record."""
    trial = measured(repo, 1.0, 1.2)
    theirs = other(repo)
    looked = again(theirs, trial, 1.2)
    loop = lab(theirs, 1.2, 1.2)
    loop.confirm(trial.oid)
    loop.confirm(trial.oid)
    mine = theirs.outcomes(trial.oid)["other-1234abcd"]

    assert mine.runs[:1] == looked.runs
    assert not is_witness(mine)
    assert wrong(theirs, trial, looked, mine) == []


def test_what_is_taken_back_counts_no_more_and_stays_on_record(repo: Repo) -> None:
    """Status, score and label change and nothing else; head and best go back; its claim stays spent."""
    trial = measured(repo, 1.0, 1.2)
    made = lab(repo, 1.2, 1.2)
    made.confirm(trial.oid)
    made.confirm(trial.oid)
    before = of(repo, trial.oid)
    assert (repo.best(STUDY), made.claims_made) == (trial.oid, 1)
    outcome = made.revoke(trial, "the hook read the wrong split")

    head = outcome.summary
    assert (head.status, head.label, head.reason) == ("invalid", "revoked", "the hook read the wrong split")
    assert (head.score, head.confirmed) == (None, False)
    assert replace(outcome, summary=before.summary) == before
    assert repo.best(STUDY) == made.baseline.oid
    again_opened = lab(repo)
    assert again_opened.lineage.head == again_opened.lineage.best == again_opened.lineage[made.baseline.oid]
    assert made.claims_made == again_opened.claims_made == 1
    assert wrong(repo, trial, before, outcome) == []


def test_what_is_taken_back_stays_so(repo: Repo) -> None:
    """A loop that still has the keep in memory adds its run and no verdict; nor is the trial assessed again."""
    trial = measured(repo, 1.0, 1.2)
    loop = lab(repo, 1.2)
    keep = of(repo, trial.oid)
    before = lab(repo).revoke(trial, "the hook read the wrong split")
    loop.confirm(trial.oid)
    outcome = of(repo, trial.oid)
    assert (outcome.summary.status, outcome.summary.n, len(outcome.runs)) == ("invalid", 3, 3)
    assert wrong(repo, trial, keep, before, outcome) == []
    assert lab(repo, 1.0).assess(trial) == outcome
    with pytest.raises(GitResearchError, match="taken back already"):
        lab(repo).revoke(trial, "once more")


def test_only_its_evaluator_takes_an_outcome_back(repo: Repo) -> None:
    """And never the baseline's, on which all others stand."""
    trial = measured(repo, 1.0, 1.2)
    made = lab(repo)
    with pytest.raises(GitResearchError, match="stands on the baseline"):
        made.revoke(made.baseline, "no reason")
    with pytest.raises(GitResearchError, match="not measured by this clone"):
        lab(other(repo)).revoke(trial, "no reason")
