"""What accelerators have, and who else is on them: on a wall clock, another's work there is measured as the trial's.

Asked of nvidia-smi before and after a run. A process that it lists and that is none of ours is somebody else's. Inside
a container it lists none; there, an accelerator that is busy or full while nothing of ours runs is in somebody's use
too, or an earlier run's memory is not free yet. Where nvidia-smi gives no answer, nothing is said.
"""

import glob
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

from gitresearch.errors import GitResearchError
from gitresearch.study import ACCELERATOR_WAIT, Budget

DEVICES = "/dev/nvidia[0-9]*"
BUSY_PERCENT, FULL_PERCENT = 10, 12  # a screen and its browser stay below both
POLL_SECONDS, WAIT_SECONDS = 5.0, ACCELERATOR_WAIT
LOOKS, SETTLE_SECONDS = 4, 0.7  # after a run: what it used is told as busy for up to a second
ASK_SECONDS = 20.0  # the driver takes seconds to load where nothing keeps it


def require(budget: Budget) -> None:
    """An error where an accelerator has less memory than a run of the study needs on each (MiB). One that nvidia-smi
    can't tell about is taken to have enough."""
    for number, whole in _ask("gpu", "index,memory.total") if budget.accelerator_mb else ():
        if whole.isdigit() and int(whole) < budget.accelerator_mb:
            needs = f"a run needs {budget.accelerator_mb} MB of each accelerator (budget.accelerator_mb)"
            raise GitResearchError(
                f"{needs}, and number {number} has {whole}", "gitresearch init --recipe NAME --scale mini"
            )


class Accelerators:
    """What this process has running on them. For several threads."""

    def __init__(self) -> None:
        self._running, self._lock = 0, threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count a run of ours for as long as the block takes."""
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def wait_until_free(self, cancel: threading.Event | None, waited: Callable[[float], None]) -> tuple[str, ...]:
        """Wait while somebody else is on them, `waited` being told the seconds; who is still there, at the end."""
        begun = time.monotonic()
        while found := self.others():
            seconds = time.monotonic() - begun
            if seconds >= WAIT_SECONDS or (cancel is not None and cancel.is_set()):
                return found
            waited(seconds)
            (cancel or threading.Event()).wait(POLL_SECONDS)
        return ()

    def spoilt(self) -> tuple[str, ...]:
        """Who is on them after a run of ours, once that has had time to leave."""
        for look in range(LOOKS):
            found = self.others()
            if not found:
                return ()
            if look + 1 < LOOKS:
                time.sleep(SETTLE_SECONDS)
        return found

    def others(self) -> tuple[str, ...]:
        """Who else is on them now, a line each; nothing where there are none to look at."""
        if not glob.glob(DEVICES):
            return ()
        mine = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
        listed = [(int(pid), memory) for pid, memory in _ask("compute-apps", "pid,used_memory") if pid.isdigit()]
        with self._lock:
            running = self._running
        # In a container the numbers may be the host's: of one that is nobody's here, it is not known whose it is.
        theirs = [(p, memory) for p, memory in listed if p not in mine and (not running or psutil.pid_exists(p))]
        if theirs or running:
            return tuple(f"process {pid} uses {memory} MiB" for pid, memory in theirs)
        return tuple(_crowded())


def _crowded() -> Iterator[str]:
    """The accelerators that are busy or full, whoever it is."""
    for number, busy, used, whole in _ask("gpu", "index,utilization.gpu,memory.used,memory.total"):
        with suppress(ValueError, ZeroDivisionError):  # what a driver can't tell is "[N/A]"
            share = 100 * float(used) / float(whole)
            if share > FULL_PERCENT or (busy.isdigit() and float(busy) > BUSY_PERCENT):
                yield f"accelerator {number} is {busy} % busy, and {used} of its {whole} MiB are taken"


def _ask(what: str, fields: str) -> Iterator[tuple[str, ...]]:
    """The rows of a query, a word for each field."""
    command = ["nvidia-smi", f"--query-{what}={fields}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_SECONDS)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return
    for line in done.stdout.splitlines() if not done.returncode else ():
        words = tuple(word.strip() for word in line.split(","))
        if len(words) == fields.count(",") + 1:
            yield words
