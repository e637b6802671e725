"""The hooks that guard a repository: where they are put, what they let through, what they do where they can't ask."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gitresearch import share
from gitresearch.cli.main import run
from gitresearch.guard import Update, check
from gitresearch.repo import Repo
from tests.build import add_trial, git, record, study_repo

ZERO = "0" * 40
HOOKS = ("pre-receive", "pre-push", "reference-transaction")


def lines(hook: str, ref: str, oid: str = "1" * 40) -> str:
    """What git tells a hook of a ref's deletion."""
    return f"(delete) {ZERO} {ref} {oid}\n" if hook == "pre-push" else f"{oid} {ZERO} {ref}\n"


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A clone with two trials, one of them measured twice."""
    made = study_repo(tmp_path / "mine")
    first = add_trial(made)
    add_trial(made, "fewer steps")
    record(made, first, 1.0)
    record(made, first, 1.1)
    return made


def branch(repo: Repo) -> str:
    return f"refs/heads/{repo.trials()[0].trial.branch}"


def notes(repo: Repo) -> str:
    return next(ref for ref in repo.notes_refs() if "outcomes" in ref)


def guard(repo: Repo) -> None:
    assert run(["-C", str(repo.git_dir), "guard"]) == 0


def test_a_bare_repository_gets_the_gate_and_a_clone_the_two_that_come_before_it(repo: Repo, tmp_path: Path) -> None:
    """Each is a file that git can run, and putting them there again is fine."""
    git(tmp_path, "init", "--quiet", "--bare", "server.git")
    for _ in range(2):
        assert run(["-C", str(tmp_path / "server.git"), "guard"]) == 0
        guard(repo)
    there = {path.name for path in (tmp_path / "server.git" / "hooks").iterdir() if path.suffix != ".sample"}
    here = {path.name for path in (repo.git_dir / "hooks").iterdir() if path.suffix != ".sample"}
    assert (there, here) == ({"pre-receive"}, {"pre-push", "reference-transaction"})
    assert all(os.access(repo.git_dir / "hooks" / name, os.X_OK) for name in here)


def test_a_hook_of_somebody_else_is_left_as_it_is(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is installed beside it, and the way to call ours from it is told."""
    theirs = repo.git_dir / "hooks" / "reference-transaction"
    theirs.write_text("#!/bin/sh\nexit 0\n")
    assert run(["-C", str(repo.git_dir), "guard"]) == 1
    assert theirs.read_text() == "#!/bin/sh\nexit 0\n"
    assert not (repo.git_dir / "hooks" / "pre-push").exists()
    assert f"sh {share.git_hooks() / 'reference-transaction'}" in capsys.readouterr().err


def test_hooks_that_other_repositories_share_are_left_as_they_are(repo: Repo, tmp_path: Path) -> None:
    """Where core.hooksPath names another folder, git would not look into this repository's own."""
    git(repo, "config", "core.hooksPath", str(tmp_path / "shared"))
    assert run(["-C", str(repo.git_dir), "guard"]) == 1
    assert not (tmp_path / "shared").exists()
    assert not (repo.git_dir / "hooks" / "pre-push").exists()


@pytest.fixture
def alone(repo: Repo, tmp_path: Path) -> Callable[[str, str], tuple[int, str]]:
    """Runs a hook as it ships, where there is no gitresearch on PATH: how it ends, and what it says."""
    (tmp_path / "bin").mkdir()
    for program in ("cat", "tr", "git", "grep", "sh"):
        path = subprocess.run(["sh", "-c", f"command -v {program}"], capture_output=True, text=True, check=True).stdout
        (tmp_path / "bin" / program).symlink_to(path.strip())
    env = {**os.environ, "PATH": str(tmp_path / "bin")}

    def ends(hook: str, told: str) -> tuple[int, str]:
        command = ["sh", str(share.git_hooks() / hook), "prepared"]
        done = subprocess.run(
            command, input=told, cwd=repo.workdir, text=True, env=env, capture_output=True, check=False
        )
        return done.returncode, done.stderr

    return ends


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_that_cannot_ask_refuses_our_refs_and_passes_others(
    hook: str, alone: Callable[[str, str], tuple[int, str]]
) -> None:
    """Without gitresearch on PATH a push of trials is refused with a sentence; any other goes through."""
    assert alone(hook, lines(hook, "refs/heads/main")) == (0, "")
    code, told = alone(hook, lines(hook, "refs/heads/trial/demo/a-change-11111111"))
    assert code == 1
    assert "could not be checked" in told


def test_packing_is_told_from_deleting(repo: Repo, alone: Callable[[str, str], tuple[int, str]]) -> None:
    """Both delete a ref's own file. Who packs has put the ref into packed-refs and let go of its lock; who deletes
    holds it, and an older git asks twice."""
    ref = branch(repo)
    git(repo, "pack-refs", "--all", "--no-prune")
    told = lines("reference-transaction", ref, git(repo, "rev-parse", ref).strip())
    assert alone("reference-transaction", told)[0] == 0
    assert alone("reference-transaction", told + told.replace(ref, f"{ref}0"))[0] == 1
    assert alone("reference-transaction", lines("reference-transaction", ref))[0] == 1
    (repo.git_dir / "packed-refs.lock").touch()
    assert alone("reference-transaction", told)[0] == 1


def asked(monkeypatch: pytest.MonkeyPatch, repo: Repo, hook: str, told: str) -> int:
    """How `receive` ends on what git tells a hook."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(told.encode())))
    return run(["-C", str(repo.git_dir), "receive", "--hook", hook])


@pytest.mark.parametrize("hook", HOOKS)
def test_the_lines_of_each_hook_are_read(
    hook: str, repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A deletion is told by each in its own form; the findings are lines on stderr, and the exit code is 4."""
    ref = branch(repo)
    oid = git(repo, "rev-parse", ref).strip()
    assert asked(monkeypatch, repo, hook, lines(hook, "refs/heads/main")) == 0
    assert asked(monkeypatch, repo, hook, lines(hook, ref, oid)) == 4
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"gitresearch: {ref}: expected: a trial's branch stays; found: it would be deleted\n")


def test_what_did_not_care_for_the_old_value_is_held_to_what_is_there(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`git update-ref REF NEW` tells the hook zeros for the old value, as a creation does."""
    main = git(repo, "rev-parse", "main").strip()
    assert asked(monkeypatch, repo, "reference-transaction", f"{ZERO} {main} {branch(repo)}\n") == 4
    assert asked(monkeypatch, repo, "pre-push", f"main~0 {{a b}} {main} refs/heads/x {ZERO}\n") == 0


def test_a_branch_that_was_moved_may_be_put_back_and_one_that_is_no_trial_may_go(repo: Repo) -> None:
    """The rules keep what is true; they keep no damage that was done before they were there."""
    ref, main = branch(repo), git(repo, "rev-parse", "main").strip()
    true = git(repo, "rev-parse", ref).strip()
    fine = [Update(main, true, ref), Update(main, "", "refs/heads/trial/demo/wrong-00000000"), Update(true, true, ref)]
    assert [check(repo, [update], deep=False) for update in fine] == [[], [], []]
    assert check(repo, [Update(true, main, ref)], deep=False)
    assert check(repo, [Update(main, main[::-1], ref)], deep=False)


@pytest.mark.slow
def test_nothing_is_rewritten_by_hand_in_a_guarded_clone(repo: Repo) -> None:
    """Trials, notes and studies stay where they are, loose and packed; everything else git does goes on."""
    guard(repo)
    ref, note = branch(repo), notes(repo)
    true = git(repo, "rev-parse", ref).strip()
    before = git(repo, "for-each-ref")

    def refused(*words: str) -> bool:
        done = subprocess.run(["git", "-C", str(repo.workdir), *words], capture_output=True, text=True, check=False)
        return done.returncode != 0 and "gitresearch: " in done.stderr and git(repo, "for-each-ref") == before

    for pack in ([], ["pack-refs", "--all", "--no-prune"], ["pack-refs", "--all", "--prune"]):
        if pack:
            git(repo, *pack)
        assert refused("update-ref", "-d", ref)
        assert refused("update-ref", "-d", ref, true)
        assert refused("update-ref", ref, "main")
        assert refused("branch", "-m", ref.removeprefix("refs/heads/"), "mine")
        assert refused("update-ref", note, f"{note}~1")
        assert refused("update-ref", "-d", note)
    git(repo, "notes", f"--ref={note}", "append", "-m", "more", "main")
    git(repo, "branch", "mine", "main")
    git(repo, "gc", "--quiet")
    git(repo, "branch", "-D", "mine")
    add_trial(repo, "one more")


@pytest.mark.slow
def test_a_push_is_stopped_before_it_is_sent(repo: Repo, tmp_path: Path) -> None:
    """Where the server has no gate, the clone's own hook says the same."""
    git(tmp_path, "init", "--quiet", "--bare", "server.git")
    guard(repo)
    command = ["git", "-C", str(repo.workdir), "push", str(tmp_path / "server.git")]
    done = subprocess.run([*command, branch(repo)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a trial of a study that has begun" not in done.stderr
    assert "holds no study.toml" in done.stderr
    assert subprocess.run([*command, "main"], capture_output=True, check=False).returncode == 0
    assert git(tmp_path / "server.git", "for-each-ref", "--format=%(refname)") == "refs/heads/main\n"


@pytest.mark.slow
def test_the_folder_that_a_hook_runs_in_lends_no_module(repo: Repo, tmp_path: Path) -> None:
    """A checkout with a module named like one of ours runs nothing of its own."""
    guard(repo)
    workdir = repo.workdir or tmp_path
    for name in ("gitresearch.py", "click.py"):
        (workdir / name).write_text("open('ran', 'w'); raise SystemExit(0)\n")
    done = subprocess.run(
        ["git", "-C", str(workdir), "update-ref", "-d", branch(repo)], capture_output=True, check=False
    )
    assert done.returncode != 0
    assert not (workdir / "ran").exists()
