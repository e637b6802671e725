"""Every way a repository can be unfit is one sentence with the command to type; no error of libgit2 comes out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gitresearch.errors import GitResearchError
from gitresearch.repo import Repo
from tests.build import STUDY, add_trial, git, outcome, plain_repo, record, study_repo

FULL_DISK = """
import os, sys
from pathlib import Path
from gitresearch.errors import GitResearchError
from gitresearch.repo import Repo
from tests.build import add_trial, git, outcome, study_repo
path = Path(sys.argv[1])
repo = study_repo(path / "r", durable=True)
repo.evaluator_id()
kept = []
(path / "ballast").write_bytes(b"x" * 300_000)
try:
    for n in range(100_000):
        trial = add_trial(repo, f"fill {n}", edits={"train.py": os.urandom(3000)})
        repo.record(trial.oid, outcome(float(n)))
        kept.append((trial.oid, float(n)))
except GitResearchError as error:
    print(error)
assert kept and len(kept) < 99_999
(path / "ballast").unlink()
again = Repo.open(path / "r")
again.clear_stale_locks()
found = {r.trial.oid: r.summary.score for r in again.trials() if r.summary}
assert all(found[oid] == score for oid, score in kept), "an outcome was lost"
again.record(again.trials()[-1].trial.oid, outcome(-1.0))
assert "error" not in git(path / "r", "fsck", "--strict", "--no-dangling")
print("resumed")
"""


def said(caught: pytest.ExceptionInfo[GitResearchError]) -> str:
    """The message, after a look at its shape: one line, no traceback's words, a command where one helps."""
    message = str(caught.value)
    assert "\n" not in message
    assert "pygit2" not in message
    assert "Error(" not in message
    assert caught.value.hint
    return message


def test_outside_a_repository(tmp_path: Path) -> None:
    """The hint says how to make one."""
    with pytest.raises(GitResearchError, match="not inside a git repository") as caught:
        Repo.open(tmp_path)
    assert said(caught).endswith("git init")
    with pytest.raises(GitResearchError, match="no such directory"):
        Repo.open(tmp_path / "none")


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    """An unborn HEAD is told apart from a broken one."""
    git(tmp_path, "init", "--quiet", "r")
    repo = Repo.open(tmp_path / "r")
    with pytest.raises(GitResearchError, match="no commit yet") as caught:
        repo.head_commit()
    assert "git commit" in said(caught)
    assert repo.trials() == []
    assert repo.studies() == {}


def test_a_detached_head_is_fine(repo: Repo) -> None:
    """What counts is the commit."""
    head = repo.head_commit()
    assert repo.workdir is not None
    git(repo.workdir, "checkout", "--quiet", "--detach")
    assert Repo.open(repo.workdir).head_commit() == head


def test_a_subdirectory_and_a_linked_worktree_are_the_same_repository(repo: Repo, tmp_path: Path) -> None:
    """Trials are seen and made from anywhere inside, and a worktree writes to the one store."""
    assert repo.workdir is not None
    git(repo.workdir, "worktree", "add", "--quiet", str(tmp_path / "tree"), "HEAD")
    other = Repo.open(tmp_path / "tree/lib", durable=False)
    assert other.common_dir == repo.common_dir
    trial = add_trial(other)
    record(other, trial)
    assert repo.trials() == other.trials() == Repo.open(repo.workdir / "lib").trials()
    assert other.evaluator_id() == repo.evaluator_id()


def test_a_bare_repository_is_fine(repo: Repo, tmp_path: Path) -> None:
    """There is no checkout to touch; `best/` has its reflog all the same."""
    git(tmp_path, "clone", "--quiet", "--bare", str(repo.git_dir), "bare.git")
    bare = Repo.open(tmp_path / "bare.git", durable=False)
    assert bare.workdir is None
    bare.pin_study(STUDY, bare.head_commit())
    trial = add_trial(bare)
    record(bare, trial)
    bare.set_best(STUDY, trial.oid, "the only one")
    assert "the only one" in git(bare, "reflog", "show", f"best/{STUDY}")
    assert git(bare, "fsck", "--strict", "--no-dangling") == ""


def test_a_shallow_clone_is_fine(repo: Repo, tmp_path: Path) -> None:
    """Parents beyond the cut are names only; what is here is read and written on."""
    assert repo.workdir is not None
    for n in range(3):
        git(repo.workdir, "commit", "--quiet", "--allow-empty", f"--message=more {n}")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repo.git_dir}", "shallow")
    shallow = Repo.open(tmp_path / "shallow", durable=False)
    trial = add_trial(shallow, parents=[shallow.head_commit()])
    record(shallow, trial)
    assert [r.trial for r in shallow.trials()] == [trial]
    missing = git(repo, "rev-parse", "HEAD~2").strip()
    with pytest.raises(GitResearchError, match="lacks the commit") as caught:
        shallow.files(missing)
    assert said(caught).endswith("git fetch --unshallow")


@pytest.mark.parametrize(
    "rev", ["nowhere", "HEAD~99", "", "-x", "HEAD:train.py", "\0", "^HEAD", "a..b", "0" * 40, "@{-9}"]
)
def test_revisions_that_name_no_commit(repo: Repo, rev: str) -> None:
    """Whatever is typed for a commit, the answer is one sentence."""
    with pytest.raises(GitResearchError, match="no commit is called") as caught:
        repo.resolve_commit(rev)
    said(caught)


def test_revisions_that_name_one(repo: Repo) -> None:
    """Branches, prefixes and tags, annotated or not."""
    head = repo.head_commit()
    git(repo, "tag", "-a", "-m", "x", "v1")
    for rev in ("HEAD", "main", head[:7], "v1", "main^{commit}"):
        assert repo.resolve_commit(rev) == head


@pytest.mark.skipif(not hasattr(os, "geteuid") or not shutil.which("bwrap"), reason="bubblewrap is not installed")
def test_a_read_only_repository_is_read_and_said_to_be_so(repo: Repo) -> None:
    """Everything is read; the first write says why it can't be."""
    trial = add_trial(repo)
    record(repo, trial)
    script = """
import sys
from pathlib import Path
from gitresearch.errors import GitResearchError
from gitresearch.repo import Repo
from tests.build import add_trial, outcome
repo = Repo.open(Path(sys.argv[1]))
(found,) = repo.trials()
assert found.summary and repo.latest("demo") == [found] and repo.claims("demo") == []
for write in (lambda: add_trial(repo, "more"), lambda: repo.record(found.trial.oid, outcome()),
              lambda: repo.claim("demo", found.trial.oid, 5)):
    try:
        write()
    except GitResearchError as error:
        print(error)
"""
    root = str(Path(__file__).parents[2])
    command = [
        "bwrap",
        "--ro-bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
        sys.executable,
        "-c",
        script,
        str(repo.git_dir),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": root})
    if "bwrap:" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("read-only" in line and line.startswith("cannot ") for line in lines), lines


@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """On a full file system the write says so, what was acknowledged is there, and with room again work goes on."""
    root = str(Path(__file__).parents[2])
    (tmp_path / "disk").mkdir()
    disk = ["--size", "3000000", "--tmpfs", str(tmp_path / "disk")]
    command = ["bwrap", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc", *disk, sys.executable, "-c", FULL_DISK]
    done = subprocess.run(
        [*command, str(tmp_path / "disk")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )
    if "bwrap:" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stderr == ""
    first, last = done.stdout.splitlines()
    assert "the disk is full" in first
    assert first.endswith("df -h .")
    assert last == "resumed"


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission(repo: Repo) -> None:
    """Another user's repository: the path that may not be written is named."""
    (repo.common_dir / "objects").chmod(0o555)
    try:
        with pytest.raises(GitResearchError, match="no permission") as caught:
            add_trial(repo)
        said(caught)
    finally:
        (repo.common_dir / "objects").chmod(0o755)


@pytest.mark.parametrize("damage", ["HEAD", "config", "objects"])
def test_a_damaged_repository_raises_nothing_else(tmp_path: Path, damage: str) -> None:
    """Broken files of git's own give our error, from opening or from the first reading."""
    path = plain_repo(tmp_path / "r")
    target = path / ".git" / damage
    if damage == "objects":
        shutil.rmtree(target)
    else:
        target.write_bytes(b"\xff\xfe[[[")

    def read() -> None:
        repo = Repo.open(path)
        repo.files(repo.head_commit())

    with pytest.raises(GitResearchError):
        read()


@pytest.mark.parametrize("fmt", ["--object-format=sha256", "--ref-format=reftable"])
def test_formats_that_libgit2_cannot_read_are_named(tmp_path: Path, fmt: str) -> None:
    """SHA-256 objects and reftable refs: said at once, not found out later."""
    done = subprocess.run(["git", "init", "--quiet", fmt, str(tmp_path / "r")], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this git can't make such a repository")
    with pytest.raises(GitResearchError) as caught:
        Repo.open(tmp_path / "r").trials()
    said(caught)


def test_evaluations_of_a_commit_that_is_not_there(repo: Repo) -> None:
    """An outcome for nothing is not recorded."""
    for oid in ("0" * 40, "zz", ""):
        with pytest.raises(GitResearchError):
            repo.record(oid, outcome())
        with pytest.raises(GitResearchError):
            repo.trial(oid)
    with pytest.raises(GitResearchError, match="no commit"):
        repo.record(next(iter(repo.files(repo.head_commit()).values())).oid, outcome())
    assert repo.outcome("0" * 40) is None
    assert repo.proposal("0" * 40) is None


def test_a_study_survives_a_packed_repository(tmp_path: Path) -> None:
    """Everything packed by git itself is read on, and written on."""
    repo = study_repo(tmp_path / "r")
    trial = add_trial(repo)
    record(repo, trial)
    git(repo, "gc", "--quiet", "--prune=now")
    again = Repo.open(tmp_path / "r", durable=False)
    assert again.studies() == {STUDY: repo.head_commit()}
    record(again, add_trial(again, "next", [trial]), 0.5)
    assert len(again.trials()) == 2
