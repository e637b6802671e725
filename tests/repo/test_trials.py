"""Trials as commits and branches: what git holds afterwards, what stays untouched, what is found by which name."""

import os
from pathlib import Path

import pygit2
import pytest

from gitresearch.errors import FormatError, GitResearchError
from gitresearch.repo import Repo
from tests.build import STUDY, TIME, add_trial, git, hypothesis, outcome, plain_repo, record, study_repo


def test_git_reads_what_the_store_wrote(repo: Repo) -> None:
    """`git log --notes`, `git notes show` and `git interpret-trailers` tell the whole story, and fsck finds nothing."""
    trial = add_trial(repo, body="The norm settles first.", expected=-0.01, assisted_by="agent:model")
    made = record(repo, trial, 0.9, "keep")
    repo.record_proposal(trial.oid, b"cost = 0.2\n")
    log = git(
        repo,
        "log",
        "-1",
        "--notes=gitresearch/*",
        "--format=%an <%ae>|%cn|%P|%s|%(trailers:key=Study)%n%N",
        trial.branch,
    )
    first, _, notes = log.partition("\n")
    assert first.startswith(
        f"optimizer <optimizer@gitresearch>|Ada Tester|{trial.parents[0]}|raise the learning rate|Study: demo"
    )
    assert "# keep  loss 0.9" in notes
    assert "cost = 0.2" in notes
    ref = f"--ref=gitresearch/outcomes/{repo.evaluator_id()}"
    assert git(repo, "notes", ref, "show", trial.oid) == made.note().decode()
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""
    assert git(repo, "show", f"{trial.branch}:train.py") == "LR = 0.1  # raise the learning rate\n"


def test_the_store_reads_what_git_wrote(repo: Repo) -> None:
    """A note that `git notes add` made counts like our own, wherever git puts it."""
    trials = [add_trial(repo, f"try {n}") for n in range(3)]
    record(repo, trials[0], 1.0)
    record(repo, trials[2], 3.0)
    ref = f"--ref=gitresearch/outcomes/{repo.evaluator_id()}"
    git(repo, "notes", ref, "add", "-m", outcome(2.0).note().decode(), trials[1].oid)
    assert {r.trial.subject: r.summary and r.summary.score for r in repo.trials()} == {
        "try 0": 1,
        "try 1": 2,
        "try 2": 3,
    }
    git(repo, "notes", ref, "remove", trials[0].oid)
    assert [r.summary for r in repo.trials() if r.trial == trials[0]] == [None]


def test_one_notes_commit_a_record_each_with_one_parent(repo: Repo) -> None:
    """The chain only grows: a replaced outcome is still in its history."""
    trial = add_trial(repo)
    record(repo, trial, 1.0)
    record(repo, trial, 2.0, "keep")
    chain = git(repo, "log", "--format=%P|%s", f"refs/notes/gitresearch/outcomes/{repo.evaluator_id()}").splitlines()
    assert [line.split("|")[1] for line in chain] == [
        f"outcome of {trial.short}: keep",
        f"outcome of {trial.short}: discard",
    ]
    assert [len(line.split("|")[0].split()) for line in chain] == [1, 0]
    found = repo.outcome(trial.oid)
    assert found is not None
    assert found.summary.score == 2.0


def test_making_a_trial_again_gives_the_same_one(repo: Repo) -> None:
    """A retry after a crash neither fails nor doubles."""
    first = add_trial(repo, time=TIME + 60)
    assert add_trial(repo, time=TIME + 60) == first
    assert [record.trial for record in repo.trials()] == [first]


def test_a_lost_branch_comes_back(repo: Repo) -> None:
    """A crash between commit and branch is mended by name."""
    trial = add_trial(repo)
    git(repo, "update-ref", "-d", f"refs/heads/{trial.branch}")
    assert repo.trials() == []
    repo.ensure_branch(repo.trial(trial.oid))
    repo.ensure_branch(trial)
    assert [record.trial for record in repo.trials()] == [trial]


def test_children_are_younger_than_their_parents(repo: Repo) -> None:
    """Order in time is order in lineage, however fast the loop is."""
    trials = [add_trial(repo, "first")]
    for n in range(5):
        trials.append(add_trial(repo, f"next {n}", [trials[-1]]))
    assert [record.trial for record in repo.trials()] == trials


def test_a_combination_is_a_merge(repo: Repo) -> None:
    """Two parents, the first one's tree under the edits."""
    a, b = add_trial(repo, "one"), add_trial(repo, "two", edits={"lib/model.py": b"WIDTH = 9\n"})
    both = add_trial(repo, "both", [a, b], {"lib/model.py": b"WIDTH = 9\n"}, operator="combine")
    assert both.parents == (a.oid, b.oid)
    assert repo.read_file(both.oid, "train.py") == repo.read_file(a.oid, "train.py")


@pytest.mark.parametrize("parents", [[], ["0" * 40], ["same", "same"]])
def test_parents_must_be_true(repo: Repo, parents: list[str]) -> None:
    """No parent, one that is not there, one twice: refused, and no branch is made."""
    oids = [repo.head_commit() if parent == "same" else parent for parent in parents]
    with pytest.raises(GitResearchError):
        repo.make_trial(hypothesis(), oids, {"train.py": b"x"})
    assert repo.trials() == []


def test_every_clone_makes_the_same_baseline(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names and times are fixed, so two people do not measure two baselines."""
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Someone Else")
    git(tmp_path, "clone", "--quiet", str(repo.git_dir), "clone")
    other = Repo.open(tmp_path / "clone")
    base = repo.head_commit()
    assert other.make_baseline(STUDY, base) == repo.make_baseline(STUDY, base) == repo.make_baseline(STUDY, base)
    assert [record.trial.operator for record in repo.trials()] == ["baseline"]


def test_checkout_index_head_and_hooks_are_left_alone(repo: Repo) -> None:
    """A dirty checkout stays as dirty as it was, and no hook runs, whatever the store does."""
    work = repo.workdir
    assert work is not None
    for hook in ("pre-commit", "commit-msg", "post-commit", "reference-transaction", "post-checkout", "pre-auto-gc"):
        path = work / ".git/hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\ntouch ran\nexit 1\n")
        path.chmod(0o755)
    (work / "train.py").write_text("dirty\n")
    (work / "staged.py").write_text("staged\n")
    (work / "loose.py").write_text("untracked\n")
    git(work, "add", "staged.py")

    def state() -> tuple[str, bytes, bytes]:  # the status first: it may note in the index when the files were looked at
        told = git(work, "status", "--porcelain")
        return told, (work / ".git/index").read_bytes(), (work / ".git/HEAD").read_bytes()

    before = state()
    trial = add_trial(repo)
    record(repo, trial)
    repo.set_best(STUDY, trial.oid, "it is")
    claim = repo.claim(STUDY, trial.oid, 5)
    assert claim is not None
    claim.release()
    repo.pack_if_needed()
    assert state() == before
    assert not list(work.rglob("ran"))


def test_names_find_their_trial(repo: Repo) -> None:
    """An oid, a prefix of it, the branch with or without its beginnings, and `best`."""
    trial, _ = add_trial(repo, "widen the model"), add_trial(repo, "something else")
    repo.set_best(STUDY, trial.oid, "for now")
    slug = trial.branch.split("/", 2)[2]
    names = [
        trial.oid,
        trial.oid[:12],
        trial.short,
        trial.branch,
        f"refs/heads/{trial.branch}",
        slug,
        f"{STUDY}/{slug}",
    ]
    for name in [*names, "best", f"best/{STUDY}"]:
        assert repo.find(name) == trial, name
        assert repo.find(name, STUDY) == trial, name


def test_a_name_that_is_nearly_right_is_suggested(repo: Repo) -> None:
    """A typing error gets the nearest name, a name of many the candidates."""
    add_trial(repo, "widen the model")
    with pytest.raises(GitResearchError) as caught:
        repo.find("widen-teh-model")
    assert "widen-the-model" in caught.value.hint
    made = [add_trial(repo, f"try {n}") for n in range(40)]
    by_digits: dict[str, list[str]] = {}
    for trial in made:
        by_digits.setdefault(trial.oid[:1], []).append(trial.oid)
    with pytest.raises(GitResearchError, match="no trial is called"):
        repo.find("zzzz")
    with pytest.raises(GitResearchError, match="no best trial yet"):
        repo.find("best")


def test_an_ambiguous_prefix_lists_its_trials(repo: Repo) -> None:
    """Two trials whose oids begin alike are both named."""
    from gitresearch.repo.lookup import find

    trial = add_trial(repo)
    twin = trial._replace(oid=trial.oid[:6] + "0" * 34)
    with pytest.raises(GitResearchError, match=r"names 2 trials: .*, ") as caught:
        find([trial, twin], trial.oid[:6])
    assert caught.value.hint == "give more digits"


def test_best_keeps_its_history(repo: Repo) -> None:
    """Every move of `best/` is a line of its reflog with the reason."""
    one, two = add_trial(repo, "one"), add_trial(repo, "two")
    assert repo.best(STUDY) is None
    repo.set_best(STUDY, one.oid, "first\nconfirmed")
    repo.set_best(STUDY, two.oid, "beat it, p = 0.01")
    repo.set_best(STUDY, two.oid, "again")
    assert repo.best(STUDY) == two.oid
    moves = git(repo, "reflog", "show", "--format=%h %gs", f"best/{STUDY}").splitlines()
    assert [move.split(" ", 1)[1] for move in moves] == ["beat it, p = 0.01", "first confirmed"]


def test_a_study_is_pinned_once(repo: Repo) -> None:
    """The base of a study never moves; a second study stands beside it."""
    base = repo.head_commit()
    trial = add_trial(repo)
    repo.pin_study(STUDY, base)
    with pytest.raises(GitResearchError, match="stands on"):
        repo.pin_study(STUDY, trial.oid)
    repo.pin_study("other", trial.oid)
    assert repo.studies() == {STUDY: base, "other": trial.oid}
    assert (repo.study_base(STUDY), repo.study_base("none")) == (base, None)
    with pytest.raises(FormatError):
        repo.study_base("../../evil")


def test_a_branch_in_the_way_is_named(tmp_path: Path) -> None:
    """git can't hold `trial` and `trial/x`: the error says how to move the branch away."""
    repo = study_repo(tmp_path / "r")
    git(repo, "branch", "trial")
    with pytest.raises(GitResearchError, match="stands in the way") as caught:
        add_trial(repo)
    assert caught.value.hint == "git branch -m trial trial-old"
    git(repo, "pack-refs", "--all")
    with pytest.raises(GitResearchError, match="stands in the way"):
        add_trial(repo)


def test_an_evaluator_keeps_its_name(repo: Repo, tmp_path: Path) -> None:
    """It is made once a clone; another clone has another, and a name that is no ref is refused."""
    name = repo.evaluator_id()
    assert Repo.open(repo.git_dir).evaluator_id() == name
    git(tmp_path, "clone", "--quiet", str(repo.git_dir), "clone")
    other = Repo.open(tmp_path / "clone")
    assert other.evaluator_id() != name
    git(repo, "config", "gitresearch.evaluator", "../evil")
    with pytest.raises(GitResearchError, match="no name for a ref"):
        Repo.open(repo.git_dir).evaluator_id()


@pytest.mark.parametrize("name", ["Eve <x> \n", "", "ü" * 300, "a\0b", "\x1b[31m"])
def test_odd_identities_still_make_readable_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A committer's name never breaks a commit, whatever git's configuration holds."""
    repo = study_repo(tmp_path / "r")
    if "\0" in name:
        pygit2.Config(str(repo.common_dir / "config"))["user.name"] = name.replace("\0", "")
    else:
        monkeypatch.setenv("GIT_COMMITTER_NAME", name)
    trial = add_trial(Repo.open(repo.git_dir, durable=False))
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""
    assert repo.trials()[0].trial == trial


def test_no_git_environment_leads_elsewhere(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a git hook GIT_DIR and GIT_INDEX_FILE name another repository; the store keeps to its own."""
    plain_repo(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other/.git/index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "other/.git/objects"))
    trial = add_trial(Repo.open(repo.git_dir, durable=False))
    assert os.path.exists(repo.git_dir / "refs/heads" / trial.branch)


def test_how_a_trial_came_about_is_on_record_before_its_branch(repo: Repo) -> None:
    """Where the branch can't be made, or a kill comes first, what the proposal cost is not lost."""
    git(repo, "update-ref", "refs/heads/trial", repo.head_commit())
    with pytest.raises(GitResearchError, match="stands in the way"):
        repo.make_trial(hypothesis(), [repo.head_commit()], {"train.py": b"x"}, proposal=(b"cost = 0.2\n", [b"seen"]))
    assert list(repo.proposals().values()) == [b"cost = 0.2\n"]


def test_what_was_said_already_makes_no_commit(repo: Repo) -> None:
    """Who goes on after a kill says the same again; every commit of the notes adds one note."""
    trial = add_trial(repo)
    for _ in range(2):
        record(repo, trial)
        repo.record_proposal(trial.oid, b"cost = 0.2\n", [b"seen"])
    for kind in ("outcomes", "proposals"):
        assert git(repo, "rev-list", "--count", f"refs/notes/gitresearch/{kind}/{repo.evaluator_id()}") == "1\n"
