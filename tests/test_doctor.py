"""`gitresearch doctor`: what is told of a machine, with a sandbox and without one."""

import json
from pathlib import Path

import pytest

from gitresearch.cli.main import run
from gitresearch.sandbox import launcher, levels, selftest
from tests.build import git


@pytest.fixture(autouse=True)
def _remembers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GITRESEARCH_CACHE", str(tmp_path / "cache"))


def test_the_rungs_and_the_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Outside a repository too: each rung with why not, the first that holds is chosen, and what runs on what."""
    code = run(["-C", str(tmp_path), "doctor", "--json", "--quick"])
    told = json.loads(capsys.readouterr().out)

    assert [rung["level"] for rung in told["sandboxes"]] == ["bubblewrap", "landlock", "seatbelt"]
    chosen = [rung for rung in told["sandboxes"] if rung["chosen"]]
    assert code == (0 if chosen else 1)
    assert chosen == [rung for rung in told["sandboxes"] if rung["holds"]][:1]
    assert all(bool(rung["fault"]) != rung["holds"] for rung in told["sandboxes"])
    assert told["landlock_abi"] == launcher.landlock_abi()
    assert told["cores"] > 0
    assert told["cache"] == str(tmp_path / "cache" / "gitresearch")
    assert git(tmp_path, "--version").strip().endswith(told["git"])


def test_a_machine_without_a_sandbox(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1 with why each rung fails and the command to type; the table is printed all the same."""
    monkeypatch.setattr(launcher, "landlock_abi", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))

    code = run(["-C", str(tmp_path), "doctor"])
    said = capsys.readouterr()

    assert code == 1
    assert "bubblewrap   no      bubblewrap is not installed" in said.out
    assert "landlock     no      this kernel has no Landlock" in said.out
    assert "cores" in said.out
    assert "apt install bubblewrap" in said.err


def test_what_works_inside_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a recipe needs is tried in each rung that holds, once: a second look reads what the first one found."""
    made: list[str] = []
    found = {"torch": "", "DataLoader": "no \x1b[2Jworkers", "torch.compile": "skipped: no compiler"}
    monkeypatch.setattr(selftest, "works", lambda box, _python: made.append(box.level) or found)
    monkeypatch.setattr(selftest, "holes", lambda *_: [])

    for _ in range(2):
        run(["-C", str(tmp_path), "doctor"])
    out = capsys.readouterr().out

    assert len(made) == len(set(made))
    for line in ("works   torch", "FAILS   DataLoader: no ", "skipped torch.compile") if made else ():
        assert line in out
    assert "\x1b" not in out


def test_an_interpreter_without_torch_is_skipped(tmp_path: Path) -> None:
    """Where a recipe's interpreter has no torch, that is no fault of the sandbox."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)

    assert selftest.works(levels.Sandbox("none", ""), str(python)) == {"torch": "skipped: the interpreter has none"}
