"""Whose outcomes count: those of evaluators that the trial's study lists, in every way of reading."""

from pathlib import Path

import pytest

from gitresearch.errors import GitResearchError
from gitresearch.outcome import Outcome
from gitresearch.repo import Record, Repo, cache
from gitresearch.signing import Key
from gitresearch.study import SIGNERS_FILE
from gitresearch.trial import Trial
from tests.attacks.victim import Victim
from tests.build import STUDY, add_trial, git, outcome, plain_repo, record

Read = dict[str, str]


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A study that lists this clone's evaluator and nobody else."""
    top = plain_repo(tmp_path / "repo")
    (top / SIGNERS_FILE).write_text(Repo.open(top).signer_line() + "\n")
    git(top, "add", SIGNERS_FILE)
    git(top, "commit", "--quiet", "-m", "list me")
    made = Repo.open(top, durable=False)
    made.pin_study(STUDY, made.head_commit())
    return made


def forged(repo: Repo, trial: Trial, said: Outcome, key: Key | None, who: str = "mallory") -> None:
    """A note that somebody else made, on a ref of this name."""
    forger = Victim(repo.workdir or repo.git_dir, repo.key, repo.key)
    forger.say(trial.oid, said, key, f"refs/notes/gitresearch/outcomes/{who}")


def statuses(repo: Repo, *, cached: bool) -> list[Read]:
    """What each way of reading says of each trial."""
    fresh = Repo.open(repo.git_dir, cache=cached)

    def told(records: list[Record]) -> Read:
        return {r.trial.subject: r.summary.status for r in records if r.summary}

    ways = [told(fresh.latest(STUDY)), told(fresh.leaders(STUDY)), told(fresh.having(STUDY, "keep", "discard"))]
    trials = [r.trial for r in fresh.trials(STUDY)]
    found = {trial.subject: known for trial in trials if (known := fresh.outcome(trial.oid))}
    return [*ways, told(fresh.trials(STUDY)), {name: known.summary.status for name, known in found.items()}]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("signed", [True, False])
def test_the_word_of_a_stranger_does_not_count(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool, signed: bool
) -> None:
    """Neither beside the evaluator's own, which it came before, nor where there is no other; and it is named."""
    monkeypatch.setattr(cache, "WORTH_MAKING", 0)
    first, second = add_trial(repo, "first"), add_trial(repo, "second")
    record(repo, first)
    key = Key.make(tmp_path / "mallory") if signed else None
    for trial in first, second:
        forged(repo, trial, outcome(0.0, "keep", at="2020-01-01T00:00:00Z"), key)
    repo.trials()
    assert statuses(repo, cached=cached) == [{"first": "discard"}] * 5
    assert Repo.open(repo.git_dir).unbelieved(STUDY) == ["mallory"]


def test_a_stranger_can_not_write_under_a_listed_name(repo: Repo, tmp_path: Path) -> None:
    """A commit by another key on top of an evaluator's notes takes its word from the whole ref, until it is gone."""
    trial = add_trial(repo, "first")
    record(repo, trial)
    ref = f"refs/notes/gitresearch/outcomes/{repo.evaluator_id()}"
    tip = git(repo, "rev-parse", ref).strip()
    forged(repo, trial, outcome(0.0, "keep"), Key.make(tmp_path / "mallory"), repo.evaluator_id())
    assert statuses(repo, cached=True) == [{}] * 5
    git(repo, "update-ref", ref, tip)
    assert statuses(repo, cached=True) == [{"first": "discard"}] * 5


def test_a_stranger_can_not_list_itself_by_another_study(repo: Repo, tmp_path: Path) -> None:
    """A study that lists it gives it no word on the trials of the first one."""
    trial, key = add_trial(repo, "first"), Key.make(tmp_path / "mallory")
    forged(repo, trial, outcome(0.0, "keep"), key)
    top = repo.workdir or tmp_path
    (top / SIGNERS_FILE).write_text(f"mallory {key.line}\n")
    git(top, "commit", "--quiet", "-am", "list mallory")
    repo.pin_study("evil", repo.head_commit())
    evil = add_trial(repo, "second", study="evil")
    forged(repo, evil, outcome(0.0, "keep"), key)
    assert statuses(repo, cached=True) == [{}] * 5
    assert [r.summary.status for r in Repo.open(repo.git_dir).trials("evil") if r.summary] == ["keep"]


def test_a_study_without_a_list_takes_everybodys_word(tmp_path: Path) -> None:
    """As before there was one: it says nothing of whom to believe."""
    top = plain_repo(tmp_path / "repo")
    repo = Repo.open(top, durable=False)
    repo.pin_study(STUDY, repo.head_commit())
    forged(repo, add_trial(repo, "first"), outcome(0.0, "keep"), None)
    assert statuses(repo, cached=True) == [{"first": "keep"}] * 5


def test_a_clone_may_believe_more(repo: Repo, tmp_path: Path) -> None:
    """Whom git's own list of signers names counts in this clone: a witness that came after the study began."""
    trial, key = add_trial(repo, "first"), Key.make(tmp_path / "later")
    forged(repo, trial, outcome(0.5, "keep"), key, "later")
    assert statuses(repo, cached=True) == [{}] * 5
    (tmp_path / "believed").write_text(f"later {key.line}\n")
    git(repo, "config", "gpg.ssh.allowedSignersFile", str(tmp_path / "believed"))
    assert statuses(repo, cached=True) == [{"first": "keep"}] * 5
    assert Repo.open(repo.git_dir).unbelieved(STUDY) == []


def test_nobody_writes_on_notes_that_another_key_ends(repo: Repo, tmp_path: Path) -> None:
    """An unsigned commit on top, or a key that is not the one: said with the way back, and nothing is written."""
    trial = add_trial(repo, "first")
    record(repo, trial)
    ref = f"refs/notes/gitresearch/outcomes/{repo.evaluator_id()}"
    good = git(repo, "rev-parse", ref).strip()
    git(repo, "notes", f"--ref={ref}", "append", "-m", "a remark", trial.oid)
    foreign = git(repo, "rev-parse", ref)
    with pytest.raises(GitResearchError) as caught:
        Repo.open(repo.git_dir).start(trial.oid, 7, "screen")
    assert caught.value.hint == f"git update-ref {ref} {good}"
    assert git(repo, "rev-parse", ref) == foreign
    git(repo, "update-ref", ref, good)
    Repo.open(repo.git_dir).start(trial.oid, 7, "screen")
