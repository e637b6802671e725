"""The real command line with real runs, killed at a dozen system calls of propose, evaluate and the confirming run."""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gitresearch.cli.main import run as gitresearch
from gitresearch.repo import Repo
from tests.attacks.victim import NAME, STUDY, TRAIN
from tests.build import git
from tests.crashes.nursery import copy

ALLOWED = [] if shutil.which("bwrap") else ["--allow-unsandboxed"]
STEPS = {
    "propose": ["propose", "--from-worktree", "-m", "a faster rate"],
    "evaluate": ["evaluate", *ALLOWED],
    "confirm": ["run", "--trials", "0", *ALLOWED],
}
# Of calls that no trial's program makes, those in the midst of each step: the n-th by one thread. Before its sixth
# rename propose is not sure to be the one that is killed: the git that reads the checkout makes five of its own.
POINTS = [
    *(("propose", "rename", 7), ("propose", "rename", 6), ("propose", "fsync", 4), ("propose", "rename", 9)),
    *(("evaluate", "rename", 1), ("evaluate", "rename", 5), ("evaluate", "fsync", 4), ("evaluate", "rename", 8)),
    *(("confirm", "rename", 2), ("confirm", "rename", 6), ("confirm", "fsync", 7), ("confirm", "rename", 11)),
]


def did(top: Path, step: str, *strace: str) -> int:
    """One step in a process of its own; its exit status."""
    program = [sys.executable, "-c", "from gitresearch.cli.main import main; main()"]
    command = [*strace, *program, "-C", str(top), *STEPS[step]]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode


def state(top: Path) -> dict[str, Any]:
    """What the study came to, without runs that our own fault ended."""
    repo = Repo.open(top, cache=False)
    records = repo.trials(NAME)
    runs = {r.trial.subject: (o := repo.outcome(r.trial.oid)) and Counter(
        run.purpose for run in o.runs if run.status != "harness_abort") for r in records}  # fmt: skip
    told = {r.trial.subject: r.summary and (r.summary.status, r.summary.confirmed) for r in records}
    best = next(r.trial.subject for r in records if r.trial.oid == repo.best(NAME))
    return {"runs": runs, "told": told, "best": best}


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with its baseline measured and an edit in the checkout that nobody has proposed yet."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    top = tmp_path_factory.mktemp("line") / "study"
    top.mkdir()
    for name, text in {"train.py": TRAIN, "study.toml": STUDY}.items():
        (top / name).write_text(text)
    git(top, "init", "--quiet", "-b", "main")
    (top / "allowed_signers").write_text(f"{Repo.open(top).signer_line()}\n")
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "-m", "begin")
    assert gitresearch(["-C", str(top), *STEPS["confirm"]]) == 0
    (top / "train.py").write_text(TRAIN.replace("LR = 0.1", "LR = 0.2"))
    return top


@pytest.fixture(scope="module")
def finished(calibrated: Path) -> dict[str, Any]:
    """What it comes to where nothing is killed."""
    top = copy(calibrated, calibrated.parent / "finished")
    assert [did(top, step) for step in STEPS] == [0, 0, 0]
    return state(top)


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "call", "number"), POINTS)
def test_a_command_that_was_killed_is_typed_again(
    calibrated: Path, finished: dict[str, Any], tmp_path: Path, killed: str, call: str, number: int
) -> None:
    """The same commands once more come to the same trials, runs and best; git and the audit find nothing."""
    top = copy(calibrated, tmp_path / "study")
    strike = ("strace", "-f", "-qq", "-o", "/dev/null", f"--trace={call}", f"--inject={call}:signal=KILL:when={number}")
    codes = {}
    for step in list(STEPS)[: list(STEPS).index(killed) + 1]:
        codes[step] = did(top, step, *(strike if step == killed else ()))
    assert codes[killed] == -9
    assert gitresearch(["-C", str(top), "audit"]) == 0
    assert "error" not in git(top, "fsck", "--strict", "--no-dangling")
    for step in STEPS:
        did(top, step)  # where it was killed after the trial's branch was made, that trial is known already
    assert state(top) == finished
    assert gitresearch(["-C", str(top), "audit"]) == 0
