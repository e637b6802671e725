"""What an accelerator has and who else is on it, played by a stand-in nvidia-smi."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitresearch import accelerator
from gitresearch.accelerator import Accelerators, require
from gitresearch.errors import GitResearchError
from gitresearch.study import Budget

IDLE = "0, 0, 4, 81559"


@pytest.fixture(autouse=True)
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device node, and nothing to wait for long."""
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(accelerator, "DEVICES", str(tmp_path / "nvidia[0-9]*"))
    monkeypatch.setattr(accelerator, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(accelerator, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(accelerator, "WAIT_SECONDS", 0.05)


Smi = Callable[..., None]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Smi:
    """Writes a stand-in that prints these processes and accelerators; at its n-th call and later, the `then` ones."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def write(apps: str = "", gpus: str = IDLE, then: str | None = None, at: int = 2, code: int = 0) -> None:
        count = tmp_path / "count"
        count.write_text("0")
        script = programs / "nvidia-smi"
        later = f'[ $n -ge {at} ] && apps="{then}"' if then is not None else ":"
        script.write_text(
            f'#!/bin/sh\napps="{apps}"\ncase "$1" in *compute-apps*)\n'
            f"n=$(($(cat {count}) + 1)); echo $n > {count}\n{later}\n"
            f'printf "%s" "$apps" ;; *) printf "%s\\n" "{gpus}" ;; esac\nexit {code}\n'
        )
        script.chmod(0o755)

    return write


@pytest.fixture
def stranger() -> Iterator[int]:
    """A process that is none of ours: its parent is gone."""
    code = "import subprocess; print(subprocess.Popen(['sleep', '20'], stdout=2, start_new_session=True).pid)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    pid = int(done.stdout)
    yield pid
    os.kill(pid, 9)


def test_nobody_is_there(smi: Smi) -> None:
    """An idle accelerator is free, with what a screen takes too; so is one that can't be asked about."""
    for gpus in (IDLE, "0, 3, 600, 8192", "0, [N/A], [N/A], [N/A]", "No devices were found", ""):
        smi(gpus=gpus)
        assert Accelerators().others() == ()
    smi(apps="77, 5000", code=9)
    assert Accelerators().others() == ()


def test_no_device_is_not_asked_about(smi: Smi, stranger: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a device no program is started."""
    smi(apps=f"{stranger}, 4000")
    monkeypatch.setattr(accelerator, "DEVICES", "/nowhere/nvidia[0-9]*")
    assert Accelerators().others() == ()


def test_a_process_of_somebody_else(smi: Smi, stranger: int) -> None:
    """Whoever is listed and is not ours is told, while a run of ours is under way too; our own are not."""
    found, child = Accelerators(), subprocess.Popen(["sleep", "20"])
    smi(apps=f"{stranger}, 4000\n{child.pid}, 300\n{os.getpid()}, 200")
    told = (f"process {stranger} uses 4000 MiB",)
    assert found.others() == told
    with found.running():
        assert found.others() == told
    child.kill()
    child.wait()


@pytest.mark.parametrize("gpus", ["0, 97, 900, 81559", "0, 0, 30000, 81559", f"{IDLE}\n1, 0, 30000, 81559"])
def test_nobody_is_listed_and_it_is_in_use(smi: Smi, gpus: str) -> None:
    """In a container processes stay hidden; being busy or full while nothing of ours runs tells. While something of
    ours runs, it says nothing."""
    smi(gpus=gpus)
    found = Accelerators()
    assert len(found.others()) == 1
    with found.running():
        assert found.others() == ()


def test_a_number_of_another_world(smi: Smi) -> None:
    """A process number of the host's is a stranger's only while nothing of ours could be it."""
    smi(apps="4194305, 4000")
    found = Accelerators()
    assert found.others() == ("process 4194305 uses 4000 MiB",)
    with found.running():
        assert found.others() == ()


def test_it_is_waited_for(smi: Smi, stranger: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until they have left, or for so long; what is waited is told. A cancelled wait ends."""
    waits: list[float] = []
    monkeypatch.setattr(accelerator, "WAIT_SECONDS", 20.0)
    smi(apps=f"{stranger}, 4000", then="", at=3)
    assert Accelerators().wait_until_free(None, waits.append) == ()
    assert len(waits) == 2
    monkeypatch.setattr(accelerator, "WAIT_SECONDS", 0.0)
    smi(apps=f"{stranger}, 4000")
    assert Accelerators().wait_until_free(None, waits.append) == (f"process {stranger} uses 4000 MiB",)
    cancel, waits = threading.Event(), []
    cancel.set()
    assert Accelerators().wait_until_free(cancel, waits.append)
    assert waits == []


def test_what_ran_may_leave(smi: Smi, stranger: int) -> None:
    """After a run, what is gone a moment later was its own; what stays spoilt its clock."""
    smi(apps="4194305, 4000", then="")
    assert Accelerators().spoilt() == ()
    smi(apps=f"{stranger}, 4000")
    assert Accelerators().spoilt() == (f"process {stranger} uses 4000 MiB",)


def test_too_little_memory_is_said_before_a_run(smi: Smi) -> None:
    """The smallest accelerator counts; a study that asks for none, and a driver that can't tell, are let through."""
    budget = Budget(accelerator=True, accelerator_mb=20_000)
    smi(gpus="0, 81559\n1, 16376")
    with pytest.raises(GitResearchError, match="number 1 has 16376") as caught:
        require(budget)
    assert "--scale mini" in caught.value.hint
    require(Budget(accelerator=True))
    for gpus in ("0, 81559", "0, [N/A]", "No devices were found"):
        smi(gpus=gpus)
        require(budget)
    smi(gpus="0, 16376", code=9)
    require(budget)
