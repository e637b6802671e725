"""One nursery, one world before the study and the state after it, for all crashes of a worker."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gitresearch.repo import Repo
from tests.build import git
from tests.crashes import session
from tests.crashes.nursery import Call, Nursery, Said, copy, traced


@dataclass
class Crashes:
    """What every crash begins from and must come to."""

    nursery: Nursery
    before: Path
    finished: dict[str, Any]
    calls: list[Call]  # those of an uninterrupted session that change the world, by path from its top

    def strike(self, top: Path, call: str, number: int, fault: str) -> Said:
        """A session in a copy of the world, hit at one system call."""
        copy(self.before, top)
        return self.nursery.run(top, "-o", "/dev/null", f"--trace={call}", f"--inject={call}:{fault}:when={number}")

    def check(self, top: Path, said: Said) -> None:
        """After a crash: git and the audit find nothing, promises are kept, and going on comes to the same end."""
        sound(top)
        kept(top, said)
        session.go_on(top, durable=False)
        sound(top)
        kept(top, said)
        assert session.state(top) == self.finished
        locks = (top / "study" / ".git").rglob("*.lock")
        assert [path for path in locks if path.parent.name != "gitresearch"] == []


def sound(top: Path) -> None:
    """git finds no error, and the audit nothing that does not follow."""
    said = git(top / "study", "fsck", "--strict", "--no-dangling", "--no-progress")
    assert "error" not in said, said
    found = session.audited(top).findings
    assert found == [], found


def kept(top: Path, said: Said) -> None:
    """Every trial and every run that a session was promised is on record."""
    repo = Repo.open(top / "study", durable=False, cache=False)
    known = {record.trial.oid for record in repo.trials(session.NAME)}
    assert known.issuperset(said.trials)
    for oid, runs in said.outcomes.items():
        found = repo.outcome(oid)
        assert found is not None
        assert sum(run.status == "ok" for run in found.runs) >= runs


@pytest.fixture(scope="session")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashes]:
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    top = tmp_path_factory.mktemp("crashes")
    before = session.world(top / "before")
    nursery = Nursery()
    try:
        calls = traced(nursery, copy(before, top / "traced"), top / "trace")
        inside = bytes(top / "traced") + b"/"
        mine = [call for call in calls if call.path.startswith(inside) and (call.writing or call.name != "openat")]
        yield Crashes(nursery, before, session.state(top / "traced"), mine)
    finally:
        nursery.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a copy goes; its keys are looked for there."""
    top = tmp_path / "world"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(top / "config"))
    yield top
    shutil.rmtree(top, ignore_errors=True)
