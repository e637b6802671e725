"""Builders: functions that make the repository, trial or outcome a test needs, so that it reads as the graph it means.

`study_repo` makes a real repository with one commit; `add_trial` and `record` go through the store as the tool does.
Nothing here is synced to disk, which makes a trial cost a millisecond.
"""

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pygit2
from pygit2.enums import ObjectType

from gitresearch.outcome import Outcome, Run, Summary
from gitresearch.repo import Repo
from gitresearch.trial import Hypothesis, Trial

STUDY = "demo"
TIME = 1_767_225_600  # 2026-01-01 00:00:00 UTC
FILES = {"train.py": b"LR = 0.1\nSTEPS = 10\n", "lib/model.py": b"WIDTH = 8\n", "run.sh": b"#!/bin/sh\nexec true\n"}


def git(where: Path | Repo, *arguments: str, check: bool = True) -> str:
    """What a git command prints, on stdout; an error holds what it said."""
    folder = where.git_dir if isinstance(where, Repo) else where
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"git {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def put_raw(repo: Repo, kind: str, data: bytes) -> str:
    """An object that git itself would refuse to make."""
    return str(pygit2.Repository(str(repo.git_dir)).write(ObjectType[kind.upper()], data))


def copy_of(path: Path, make: Callable[..., object], *told: Hashable) -> Path:
    """A copy of the repository that `make(path, *told)` makes in a new folder. It is asked once, whoever wants one."""
    return shutil.copytree(_made_once(make, *told), path, dirs_exist_ok=True)


@functools.cache
def _made_once(make: Callable[..., object], *told: Hashable) -> Path:
    """The repository to copy, in the home of this session (tests/conftest.py), without git's examples of hooks."""
    path = Path(tempfile.mkdtemp(prefix="template-", dir=Path.home())) / "made"
    make(path, *told)
    for sample in path.glob("**/hooks/*.sample"):
        sample.unlink()
    return path


def plain_repo(path: Path, files: Mapping[str, bytes] = FILES) -> Path:
    """A git repository with one commit of these files; `run.sh` is executable. `path` is new, or empty."""
    assert not path.exists() or not any(path.iterdir())
    return copy_of(path, _commit_of, tuple(files.items()))


def _commit_of(path: Path, files: tuple[tuple[str, bytes], ...]) -> None:
    for name, data in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
        if name.endswith(".sh"):
            (path / name).chmod(0o755)
    path.mkdir(exist_ok=True)
    git(path, "init", "--quiet")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--message=the recipe", f"--date={TIME} +0000")


def study_repo(path: Path, *, durable: bool = False, files: Mapping[str, bytes] = FILES) -> Repo:
    """A repository with one commit, pinned as the base of the study `demo`."""
    repo = Repo.open(plain_repo(path, files), durable=durable)
    repo.pin_study(STUDY, repo.head_commit())
    return repo


def hypothesis(subject: str = "raise the learning rate", **fields: Any) -> Hypothesis:
    """A hypothesis of the study `demo` with the fields that matter to the test."""
    return Hypothesis(**{"subject": subject, "study": STUDY, "specialist": "optimizer"} | fields)


def add_trial(
    repo: Repo,
    subject: str = "raise the learning rate",
    parents: Sequence[Trial | str] = (),
    edits: Mapping[str, bytes | None] | None = None,
    *,
    time: int | None = None,
    **fields: Any,
) -> Trial:
    """A trial on the given parents (the study's base by default); its edit of train.py follows from its subject."""
    on = [parent if isinstance(parent, str) else parent.oid for parent in parents]
    study = fields.get("study", STUDY)
    base = repo.study_base(study) or repo.head_commit()
    changed = {"train.py": f"LR = 0.1  # {subject}\n".encode()} if edits is None else edits
    return repo.make_trial(hypothesis(subject, **fields), on or [base], changed, time=time)


def outcome(score: float | None = 1.0, status: str = "discard", **fields: Any) -> Outcome:
    """An outcome with one run; further fields are the head's."""
    head = Summary(
        **{
            "status": status,
            "metric": "loss",
            "score": score,
            "sd": 0.0,
            "n": 1,
            "confirmed": False,
            "seconds": 1.5,
            "at": "2026-01-01T00:00:00Z",
            "label": "",
            "reason": "",
        }
        | fields
    )
    metrics = {} if score is None else {"loss": score}
    return Outcome(head, runs=(Run(1, "screen", "ok" if score is not None else status, metrics),))


def record(repo: Repo, trial: Trial, score: float | None = 1.0, status: str = "discard", **fields: Any) -> Outcome:
    """Record an outcome of the trial and return it."""
    made = outcome(score, status, **fields)
    repo.record(trial.oid, made)
    return made
