"""Weaker stand-ins for parts of the evaluator, each of which some attack would need."""

import os
import re
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from gitresearch.evaluate import Evaluator
from gitresearch.handover import Handover
from gitresearch.repo import Repo
from gitresearch.sandbox import Channel, Ended, Process, World
from tests.build import git

_EXPORT, _WORLD, _POPEN, _HANDOVER = Evaluator._export, Evaluator._world, subprocess.Popen, Handover.__init__


def checkout(self: object, commit: str, root: str, dest: Path) -> None:
    """The files as a checkout writes them: what git's attributes and filters say, links and all. The weaker export."""
    repo = self.source if isinstance(self, Evaluator) else self
    assert isinstance(repo, Repo)
    dest.mkdir(parents=True, exist_ok=True)
    swap = "filter.evil.smudge=cat; echo 'swapped = True'"
    git(repo, "-c", swap, "--work-tree", str(dest), "checkout", "-f", commit, "--", ".")


def once(self: Evaluator, job: Any) -> None:
    """Files are written out for training and left for the predictor as they are then."""
    if not job.tree.exists():
        _EXPORT(self, job)


def says_why(self: Evaluator, job: Any, *, training: bool) -> World:
    """A world that tells what a run is for."""
    world = _WORLD(self, job, training=training)
    return replace(world, env={**world.env, "GITRESEARCH_PURPOSE": job.purpose})


def leaky(command: Any, *rest: Any, **more: Any) -> Any:
    """A start of programs that hands on a descriptor of the labels."""
    train = next((word for word in command if str(word).endswith("/bits/train")), None)
    if train is None:
        return _POPEN(command, *rest, **more)
    with open(Path(train).parent / "held_out/bits.json", "rb") as labels:
        return _POPEN(command, *rest, **{**more, "pass_fds": (*more["pass_fds"], labels.fileno())})


def as_told(_self: Evaluator, ended: Ended) -> float:
    """The time that a program says it took."""
    found = re.search(rb"train_seconds: (\S+)", ended.log)
    return float(found[1]) if found else 0.0


def asks_politely(self: Process) -> None:
    """A signal that can be ignored first, the other one only later."""

    def send(number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)

    send(signal.SIGTERM)
    threading.Timer(0.6, send, (signal.SIGKILL,)).start()


ASKS_POLITELY = {"gitresearch.sandbox.process.Process.kill": asks_politely}


def early(self: Handover, data: Path, top: Path) -> None:
    """The real data from the start."""
    _HANDOVER(self, data, top)
    self.give()


def starts_anew(self: Process) -> None:
    """A clock that starts again with each word of the program."""
    gate = self.world.gate
    assert gate is not None
    with suppress(BlockingIOError):
        if os.read(gate._ours, 1):
            self._before = self.cpu, self.wall
            if not gate.opened:
                gate.open()


def only_the_first(top: Any, _most: int) -> set[Any]:
    """The processes of a run, but for those that its first one started."""
    return {top}


def remembers_all(self: Channel) -> list[bytes]:
    """A channel that takes all that comes as if it were lines of its own, and gives up where there is too much."""
    with suppress(BlockingIOError):
        self._rest += os.read(self._ours, 1 << 20)
    if len(self._rest) > 1 << 20:
        raise OSError("out of memory")
    return [line for line in self._rest.split(b"\n") if line]


def believes_progress(self: Evaluator, job: Any, *_rest: Any) -> None:
    """A score that is what the program last said of itself."""
    job.run = replace(job.run, metrics={"bits": job.forecast.metric})


ONE_PROCESS = {
    "gitresearch.sandbox.footprint.tree": only_the_first,
    "gitresearch.sandbox.process.Process._late": lambda _: "",
    "gitresearch.sandbox.taskclock.TaskClock.seconds": 0.0,
}
