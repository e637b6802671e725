"""The lab's books: whatever ends a run, the runs that were made stay, and our own fault costs a trial nothing."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gitresearch.audit.outcomes import Pins, check
from gitresearch.cli.look import in_turn
from gitresearch.curves import Bar
from gitresearch.errors import GitResearchError
from gitresearch.lab import Lab
from gitresearch.outcome import Outcome
from gitresearch.repo import Repo
from gitresearch.study import Evaluator, Objective, load
from gitresearch.trial import Trial
from tests.build import STUDY, add_trial, git, study_repo
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


def test_a_first_run_has_a_bar_to_reach_and_no_other(repo: Repo) -> None:
    """Where the study is scored by seconds the bar is the head's; a trial that ends at it bears an audit and has no
    score, fresh seeds and the baseline's have none."""
    timed = replace(QUESTION, objective=Objective("total_seconds"), evaluator=Evaluator(hook="hook.py"))
    runs = FakeRuns(Script(9.0, 10.0, 8.0, 8.5, "early_stop"), metric="total_seconds")
    made = Lab(repo, timed, repo.study_base(STUDY) or "", runs)
    for _ in range(2):
        made.calibrate()
    made.assess(add_trial(repo, "quicker"))
    trial = add_trial(repo, "slower")
    stopped = made.assess(trial)
    assert [bar.seconds if isinstance(bar, Bar) else None for bar in runs.bars] == [None, None, 9.5, None, 8.5]
    assert stopped is not None
    assert (stopped.summary.status, stopped.summary.score, stopped.summary.n) == ("early_stop", None, 1)
    pins = Pins(repo.study_base(STUDY) or "", "")
    assert [claim for claim, _ in check(timed, trial, stopped, pins) if not claim.startswith("measured for")] == []
    assert made.lineage.statuses()["early_stop"] == 1
    assert made.assess(trial) == stopped


def test_a_stalled_head_is_seen_past_what_is_under_way(repo: Repo) -> None:
    """Its claim is due once so many measured trials came after it and none was kept, whatever others are being run."""
    asked = replace(QUESTION, decision=replace(QUESTION.decision, stall=2))
    made = Lab(repo, asked, repo.study_base(STUDY) or "", FakeRuns(Script(2.0, 2.1, 1.0, 1.0, 3.0, 3.1)))
    for _ in range(2):
        made.calibrate()
    head, *others = (add_trial(repo, name, time=at) for at, name in enumerate(("kept", "one", "two"), 2_000_000_000))
    made.assess(head)
    for number, trial in enumerate(others):
        assert made.claim_due(ending=False) is None, number
        made.assess(trial)
    made.add(add_trial(repo, "under way", time=2_000_000_009))
    assert made.claim_due(ending=False) == head.oid


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
    assert (outcome.summary.n, outcome.summary.score) == (2, 1.05)  # not the seed that made it the head


def test_a_claim_of_a_worse_head_ends_early_and_what_ran_beside_it_stays(repo: Repo) -> None:
    """A hopeless head costs one confirmation seed; one that was under way then is on record and changes nothing."""
    calibrated(repo)
    trial = add_trial(repo, "try")
    first = lab(repo, 1.0, 1.0, 9.0, 1.0)
    first.assess(trial)
    beside = Lab(Repo.open(repo.git_dir), QUESTION, first.base, FakeRuns(lambda *_: first.confirm(trial.oid) and 1.0))
    beside.confirm(trial.oid)
    outcome = of(repo, trial.oid)
    assert (outcome.summary.status, outcome.summary.label) == ("discard", "unconfirmed")
    assert outcome.decision["claim_n"] == 1
    assert [run.purpose for run in outcome.runs] == ["screen", "head", "confirm", "confirm"]
    assert [run.saved_by for run in outcome.runs] == ["", "", "look", ""]
    assert outcome.runs[2].saved_seconds == outcome.runs[2].total_seconds  # of the one seed that was left
    pins = Pins(repo.study_base(STUDY) or "", "")
    assert [claim for claim, _ in check(QUESTION, trial, outcome, pins) if claim[:8] != "measured"] == []


def test_a_claim_that_began_is_decided_first(repo: Repo) -> None:
    """A first seed that takes the lead from the head leaves its claim due: else the keep whose seeds happened to be
    good would be the one that claims."""
    calibrated(repo)
    one, two = add_trial(repo, "one", time=2_000_000_000), add_trial(repo, "two", time=2_000_000_001)
    made = lab(repo, 1.5, 1.5, 1.0, 1.0, 1.9)
    made.assess(one)
    made.assess(two)
    assert made.claim_due(ending=True) == two.oid
    made.confirm(two.oid)
    assert of(repo, two.oid).summary.score == pytest.approx(1.45)
    again = lab(repo)
    again.details[one.oid] = replace(of(repo, one.oid), summary=of(repo, one.oid).summary._replace(score=1.4))
    again.lineage.settle(one.oid, again.details[one.oid].summary)
    assert again.lineage.head is not None
    assert again.lineage.head.trial.oid == one.oid
    assert again.claim_due(ending=False) == two.oid


def test_a_claim_that_failed_stays_so_when_a_seed_beside_it_ends(repo: Repo) -> None:
    """One confirmation seed crashed while another ran: the trial keeps its status and its arithmetic, and the outcome
    bears an audit."""
    calibrated(repo)
    trial = add_trial(repo, "try")
    first = lab(repo, 1.0, 1.0, "crash")
    first.assess(trial)
    beside = Lab(Repo.open(repo.git_dir), QUESTION, first.base, FakeRuns(lambda *_: first.confirm(trial.oid) and 1.0))
    beside.confirm(trial.oid)
    outcome = of(repo, trial.oid)
    assert [run.status for run in outcome.runs] == ["ok", "ok", "crash", "ok"]
    assert (outcome.summary.status, outcome.summary.label) == ("crash", "unconfirmed")
    assert outcome.decision["reference"] == 2.05
    pins = Pins(repo.study_base(STUDY) or "", "")
    assert [claim for claim, _ in check(QUESTION, trial, outcome, pins) if claim[:8] != "measured"] == []


def test_a_claim_that_was_lost_is_remembered(repo: Repo) -> None:
    """Keeps from before it don't make the next claim due, in this process or the next."""
    calibrated(repo)
    asked = replace(QUESTION, decision=replace(QUESTION.decision, every=1, stall=0))
    base = repo.study_base(STUDY) or ""
    made = Lab(repo, asked, base, FakeRuns(Script(1.5, 1.5, 1.4, 1.4, 9.0)))
    for at, name in enumerate(("one", "two"), 2_000_000_000):
        made.assess(add_trial(repo, name, time=at))
    due = made.claim_due(ending=False)
    assert due is not None
    made.confirm(due)
    assert of(repo, due).summary.label == "unconfirmed"
    for one in (made, Lab(repo, asked, base, FakeRuns(Script()))):
        assert one.claim_due(ending=False) is None
        assert one.claim_due(ending=True) is not None


INTERLEAVED = replace(QUESTION, decision=replace(QUESTION.decision, interleave=True))


def test_an_interleaved_claim_is_made_against_runs_beside_it(repo: Repo) -> None:
    """The machine turned slow: against the baseline's old runs the head is worse, in turn with it better. The rival's
    runs stand in the claim's outcome, name their trial, enter no score, and bear an audit."""
    calibrated(repo)
    trial = add_trial(repo, "try")
    made = Lab(repo, INTERLEAVED, repo.study_base(STUDY) or "", FakeRuns(Script(1.0, 1.0, 9.1, 4.0, 9.0, 4.1)))
    made.assess(trial)
    for _ in range(2):
        made.confirm(trial.oid)
    outcome = of(repo, trial.oid)
    assert [(run.purpose, run.of) for run in outcome.runs[2:]] == 2 * [("rival", made.baseline.oid), ("confirm", "")]
    assert (outcome.summary.score, outcome.summary.n, outcome.summary.confirmed) == (4.05, 2, True)
    facts = outcome.decision
    assert (facts["claim_rival"], facts["claim_rival_n"]) == (9.05, 2)
    assert facts["claim_beside"] == made.baseline.oid
    assert "vs baseline on 2 fresh seeds in turn" in outcome.summary.reason
    told = f"best −5 (-55.2%) against {made.baseline.short}, in turn with it"
    assert in_turn(INTERLEAVED, outcome) == [told]
    assert in_turn(INTERLEAVED, of(repo, made.baseline.oid)) == []
    pins = Pins(repo.study_base(STUDY) or "", "")
    assert [claim for claim, _ in check(INTERLEAVED, trial, outcome, pins) if claim[:8] != "measured"] == []
    assert of(repo, made.baseline.oid).summary.n == 2


def test_a_rival_that_fails_costs_the_claim_nothing(repo: Repo) -> None:
    """Its run is on record and counts for nobody; where none beside the claim was scored, the old runs count."""
    calibrated(repo)
    trial = add_trial(repo, "try")
    found = Script(1.0, 1.0, "crash", 1.0, "train_budget_overrun", 1.01)
    made = Lab(repo, INTERLEAVED, repo.study_base(STUDY) or "", FakeRuns(found))
    made.assess(trial)
    for _ in range(2):
        made.confirm(trial.oid)
    outcome = of(repo, trial.oid)
    assert [run.status for run in outcome.runs[2:]] == ["crash", "ok", "train_budget_overrun", "ok"]
    assert outcome.summary.status == "keep"
    assert outcome.decision["claim_rival"] == 2.05
    assert "claim_beside" not in outcome.decision
    pins = Pins(repo.study_base(STUDY) or "", "")
    assert [claim for claim, _ in check(INTERLEAVED, trial, outcome, pins) if claim[:8] != "measured"] == []


def killed(repo: Repo, trial: Trial, purpose: str, seed: int = 7) -> None:
    """A run that was started by a process that is dead by now."""
    root = str(Path(__file__).parents[1])
    code = (
        "import sys; from pathlib import Path; from gitresearch.repo import Repo\n"
        "Repo.open(Path(sys.argv[1]), durable=False).start(sys.argv[2], int(sys.argv[3]), sys.argv[4])"
    )
    words = [sys.executable, "-c", code, str(repo.git_dir), trial.oid, str(seed), purpose]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": root})


def test_a_killed_assessment_leaves_its_run_on_record(repo: Repo) -> None:
    """The run that nobody saw the end of is in the outcome, aborted, before those that were made for it."""
    calibrated(repo)
    trial = add_trial(repo, "try")
    killed(repo, trial, "screen")
    made = lab(repo, 3.0).assess(trial)
    assert made is not None
    assert [(run.purpose, run.status) for run in made.runs] == [("screen", "harness_abort"), ("screen", "ok")]
    assert (made.runs[0].seed, made.summary.status, made.summary.n) == (7, "discard", 1)
    assert repo.lost(QUESTION.longest_run) == {}


def test_a_killed_calibration_and_a_killed_claim_do_too(repo: Repo) -> None:
    """The baseline's lost run comes with its next one; a keep's is written down when the study is opened."""
    baseline = lab(repo).baseline
    killed(repo, baseline, "baseline")
    calibrated(repo)
    assert [run.status for run in of(repo, baseline.oid).runs] == ["harness_abort", "ok", "ok"]
    trial = add_trial(repo, "try")
    made = lab(repo, 1.0, 1.1, 1.2)
    made.assess(trial)
    made.confirm(trial.oid)
    killed(repo, trial, "confirm")
    again = lab(repo, 1.0)
    assert [run.status for run in of(repo, trial.oid).runs] == ["ok", "ok", "ok", "harness_abort"]
    again.confirm(trial.oid)
    assert of(repo, trial.oid).decision["claim_n"] == 2
    pins = Pins(repo.study_base(STUDY) or "", "")
    wrong = [claim for claim, _ in check(QUESTION, trial, of(repo, trial.oid), pins) if claim[:8] != "measured"]
    assert wrong == []


def test_a_run_under_way_elsewhere_is_not_lost(repo: Repo) -> None:
    """What a living process started is left to it; what one on another host did, for as long as a run can take."""
    calibrated(repo)
    trial = add_trial(repo, "try")
    repo.start(trial.oid, 7, "screen")
    assert repo.lost(QUESTION.longest_run) == {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gitresearch.repo.claims.host", lambda: "another host")
        assert repo.lost(QUESTION.longest_run) == {}
        patch.setattr("time.time", lambda: 4e9)
        assert [start.seed for start in repo.lost(QUESTION.longest_run)[trial.oid]] == [7]


def test_two_processes_that_calibrate_keep_each_others_runs(repo: Repo) -> None:
    """Each opened the study before the other wrote; both runs are in the outcome."""
    first, second = lab(repo, 2.0), lab(Repo.open(repo.git_dir), 2.1)
    first.calibrate()
    second.calibrate()
    assert [run.metrics["loss"] for run in of(repo, first.baseline.oid).runs] == [2.0, 2.1]


def test_two_processes_give_each_claim_a_number_of_its_own(repo: Repo) -> None:
    """Both opened the study before either claimed: the second claim is the study's second, against what the first
    left as the best."""
    calibrated(repo)
    one, other = add_trial(repo, "one"), add_trial(repo, "other")
    first, second = lab(repo, 1.0, 1.0, 1.1, 1.0), lab(Repo.open(repo.git_dir), 0.5, 0.5, 0.6, 0.5)
    first.assess(one)
    second.assess(other)
    for made, trial in ((first, one), (first, one), (second, other), (second, other)):
        made.confirm(trial.oid)
    claims = [of(repo, trial.oid).decision for trial in (one, other)]
    assert [claim["claim"] for claim in claims] == [1, 2]
    assert second.claims_made == 2


def test_a_baseline_that_fails_at_last_keeps_what_its_runs_say(repo: Repo) -> None:
    """One more seed that crashes makes it a crash, and the drift that was seen before stays in the note."""
    calibrated(repo)
    made = lab(repo, 2.05, "crash")
    made.look_for_drift()
    with pytest.raises(GitResearchError, match="the unchanged recipe fails"):
        made.calibrate()
    outcome = of(repo, made.baseline.oid)
    assert outcome.summary.status == "crash"
    assert outcome.decision["drift_verdict"] == "steady"
    pins = Pins(repo.study_base(STUDY) or "", "")
    assert [claim for claim, _ in check(QUESTION, made.baseline, outcome, pins) if "drift" in claim] == []


def test_a_run_is_on_record_before_it_begins(repo: Repo) -> None:
    """While the evaluator works, git tells the trial, the seed and the purpose in a signed commit."""
    calibrated(repo)
    trial = add_trial(repo, "try")
    seen: list[str] = []

    def look(_trial: Trial, seed: int, purpose: str) -> float:
        ref = f"refs/notes/gitresearch/outcomes/{repo.evaluator_id()}"
        seen.append(git(repo, "log", "-1", "--format=%B", ref))
        assert f"Seed: {seed}\nPurpose: {purpose}\n" in seen[-1]
        assert "gpgsig" in git(repo, "cat-file", "commit", ref)
        return 3.0

    Lab(repo, QUESTION, repo.study_base(STUDY) or "", FakeRuns(look)).assess(trial)
    assert seen[0].startswith(f"start {trial.short}: screen\n\nTrial: {trial.oid}\n")


def test_a_lab_that_opens_moves_the_best(repo: Repo) -> None:
    """A kill may have come between a claim's outcome and the branch."""
    calibrated(repo)
    trial = add_trial(repo, "try")
    made = lab(repo, 1.0, 1.0, 1.0, 1.001)
    made.assess(trial)
    for _ in range(2):
        made.confirm(trial.oid)
    assert repo.best(STUDY) == trial.oid
    repo.set_best(STUDY, made.baseline.oid, "as a kill would have left it")
    lab(repo)
    assert repo.best(STUDY) == trial.oid


def test_books_that_cant_be_opened_are_told_in_a_sentence(repo: Repo) -> None:
    """The lock that runs are added under may not be there to be made: a full disk, no permission."""
    made = lab(repo, 2.0)
    (repo.common_dir / "gitresearch/outcomes.lock").mkdir()
    with pytest.raises(GitResearchError, match="cannot lock the outcomes"):
        made.calibrate()
