"""A program at work: started in its world, watched from outside, ended with everything that it started."""

import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from gitresearch.sandbox import footprint, keyring
from gitresearch.sandbox.levels import Sandbox, environment
from gitresearch.sandbox.taskclock import TaskClock
from gitresearch.sandbox.waiting import until_ended
from gitresearch.sandbox.world import SCRATCH, Ended, Limits, World
from gitresearch.workdir import remove

POLL_SECONDS = 0.05
LOG_HEAD, LOG_TAIL = 64 * 1024, 256 * 1024
ENDING_SECONDS = 12.0  # more than the launcher gives itself


class Process:
    """A program running in its world. `wait` watches it from the calling thread until it ended or met a limit."""

    def __init__(
        self, box: Sandbox, argv: Sequence[str], world: World, limits: Limits,
        stdin: int = subprocess.DEVNULL, stdout: int | None = None,
    ) -> None:  # fmt: skip
        self.box, self.limits = box, limits
        self.world = world = _with_scratch(box, world)
        self._report = _Report(box)
        try:
            if box.level != "none":
                keyring.renew()
            command, env = box.command(argv, world, limits), environment(box, world)
        except BaseException:
            self._report.hang_up()
            self._tidy()
            raise
        ends = [end for end in (world.gate, world.channel) if end is not None]
        read, write = os.pipe()
        self._clock = TaskClock()
        self._own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            self._popen = subprocess.Popen(
                self._report.asked_for(command), stdin=stdin, stdout=write if stdout is None else stdout, stderr=write,
                cwd=world.root, env=env, start_new_session=True,
                pass_fds=(*self._report.handles, *(end.handle for end in ends)),
            )  # fmt: skip
        except OSError:
            os.close(read)
            self._clock.close()
            self._tidy()
            raise
        finally:
            os.close(write)
            self._report.hang_up()
            for end in ends:
                end.hang_up()
        self.started = time.monotonic()
        self._log = _Log(read, limits.log_bytes)
        self.cpu = 0.0
        self.peak = 0
        self._seen: dict[psutil.Process, float] = {}  # CPU seconds of its own that each process had when last seen
        self._past = 0.0  # of those that are gone
        self._before = 0.0, 0.0  # CPU and wall seconds before the gate

    @property
    def wall(self) -> float:
        return time.monotonic() - self.started

    @property
    def used(self) -> tuple[float, float]:
        """CPU and wall seconds since the gate, or since the start."""
        return self.cpu - self._before[0], self.wall - self._before[1]

    def wait(
        self, cancel: threading.Event | None = None, on_tick: Callable[[float], None] = lambda _used: None
    ) -> Ended:
        """Until the end. `on_tick` gets the seconds used so far, by the clock that counts, about twice a second."""
        try:
            status, stopped_by = self._watch(cancel, on_tick)
        except BaseException:  # whoever watches failed, or ^C: what runs must not run on unwatched
            self.kill()
            self._reap(block=True)
            self._end_survivors()
            self._log.finish()
            self._clock.close()
            self._tidy()
            raise
        if self.world.gate is not None and not self.world.gate.opened:
            self._before = self.cpu, self.wall
        cpu, wall = self.used
        self._end_survivors()
        self._clock.close()
        log, stopped_by = self._log.finish(), stopped_by or self._late()
        began = self._tidy() or bool(stopped_by) or status != 1 or log.startswith(b"bwrap: execvp")
        before = self._before[0 if self.limits.cpu_seconds is not None else 1]
        return Ended(status, stopped_by, cpu, wall, self.peak, log, self._log.total, began, before)

    def _watch(self, cancel: threading.Event | None, on_tick: Callable[[float], None]) -> tuple[int, str]:
        """Exit code and the limit that was met, if one was."""
        last_tick, last_disk = 0.0, self.started
        while (status := self._reap()) is None:
            stopped_by = self._over(self._measure(), cancel)
            self._let_in()
            if not stopped_by and time.monotonic() - last_disk > 1.0:
                stopped_by = "disk" if self._disk() > self.limits.disk_bytes else ""
                last_disk = time.monotonic()
            if stopped_by:
                self.kill()
                return self._reap(block=True) or 0, stopped_by
            if self.wall - last_tick > 0.5:
                last_tick = self.wall
                on_tick(self.used[0 if self.limits.cpu_seconds is not None else 1])
            until_ended(self._popen.pid, POLL_SECONDS, POLL_SECONDS if self.wall > 0.5 else POLL_SECONDS / 10)
        return status, ""

    def _let_in(self) -> None:
        """Open the gate to a program that is ready; its clock starts with what all its processes have used by now."""
        gate = self.world.gate
        if gate is not None and gate.knocked():
            self._before = self.cpu, self.wall
            gate.open()

    def _times(self) -> tuple[tuple[str, bool], ...]:
        """The clocks that count now, and whether they have run out."""
        gate, (cpu, wall) = self.world.gate, self.used
        if gate is not None and not gate.opened:
            over = wall > gate.wall_seconds or (gate.cpu_seconds is not None and cpu > gate.cpu_seconds)
            return (("warmup", over),)
        most = self.limits.cpu_seconds
        return ("cpu", most is not None and cpu > most), ("wall", wall > self.limits.wall_seconds)

    def _late(self) -> str:
        """The limit that a program had passed when it ended by itself, before that was seen."""
        limits = self.limits
        if self._log.full:
            return "log"
        if limits.cpu_seconds is not None and self.used[0] > limits.cpu_seconds:
            return "cpu"
        return "disk" if self._disk() > limits.disk_bytes else ""

    def _reap(self, *, block: bool = False) -> int | None:
        """The exit code once it ended, with the kernel's final figures."""
        pid, status, usage = os.wait4(self._popen.pid, 0 if block else os.WNOHANG)
        if pid == 0:
            return None
        code = os.waitstatus_to_exitcode(status)
        self._popen.returncode = code  # so that Popen does not wait for it again
        # A killed launcher has not waited for its children: what was polled may be more.
        self.cpu = max(self.cpu, usage.ru_utime + usage.ru_stime, self._clock.seconds)
        if usage.ru_maxrss > self._own_peak:  # below, it may be ours: a child begins with its parent's
            self.peak = max(self.peak, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
        return code

    def _measure(self) -> int:
        """CPU seconds and memory of the tree now; the number of its processes.

        What ended counts by its parent's account of children it waited for, or by what was last seen of it: a parent
        that ignores SIGCHLD has no such account.
        """
        try:
            tree = footprint.tree(psutil.Process(self._popen.pid), self.limits.processes)
        except psutil.Error:
            return 0
        if len(tree) > self.limits.processes:  # they grow faster than they can be measured
            self._seen |= dict.fromkeys(tree - self._seen.keys(), 0.0)
            return len(tree)
        tree |= {process for process in self._seen.keys() - tree if footprint.alive(process)}
        self._past += sum(self._seen.pop(process) for process in self._seen.keys() - tree)
        waited, private, shared = 0.0, 0, 0
        for process in tree:
            self._seen.setdefault(process, 0.0)
            with suppress(psutil.Error, OSError):
                user, system, *children = process.cpu_times()[:4]
                self._seen[process] = user + system
                waited += sum(children)
                memory = process.memory_info()
                mine = getattr(memory, "shared", 0)
                private, shared = private + memory.rss - mine, max(shared, mine)
        self.cpu = max(self.cpu, sum(self._seen.values()) + max(waited, self._past), self._clock.seconds)
        used = private + shared
        if used > self.limits.memory_bytes:
            used = min(used, footprint.proportional(tree))
        self.peak = max(self.peak, used)
        return len(tree)

    def _over(self, processes: int, cancel: threading.Event | None) -> str:
        limits = self.limits
        checks = (
            ("cancelled", cancel is not None and cancel.is_set()),
            *self._times(),
            ("memory", self.peak > limits.memory_bytes),
            ("processes", processes > limits.processes),
            ("log", self._log.full),
        )
        return next((name for name, over in checks if over), "") or self._told()

    def _told(self) -> str:
        """Why what it says on its channel has it stopped. What it says before its gate opens is about no task."""
        channel, gate = self.world.channel, self.world.gate
        if channel is None:
            return ""
        if gate is not None and not gate.opened:
            channel.drop()
            return ""
        return channel.look(self.used[0 if self.limits.cpu_seconds is not None else 1])

    def _disk(self) -> int:
        named = sum(footprint.size(folder) for folder in (self.world.root, *self.world.writable.values()))
        return named + footprint.nameless(process.pid for process in self._seen)

    def kill(self) -> None:
        """End the whole tree now. At level landlock the launcher does it: it can find what left its parents."""
        with suppress(ProcessLookupError, PermissionError):
            if self.box.level == "landlock":
                os.kill(self._popen.pid, signal.SIGTERM)
                until_ended(self._popen.pid, ENDING_SECONDS, ENDING_SECONDS)
            os.killpg(self._popen.pid, signal.SIGKILL)

    def _tidy(self) -> bool:
        """Remove its temporary folder; whether the program began."""
        if self.box.level != "bubblewrap":
            remove(self.world.writable[SCRATCH])
        return self._report.read()

    def _end_survivors(self) -> None:
        """Nothing a program started outlives it; those that left its process group are found by having been seen."""
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            alive = [p for p in self._seen if p.pid != self._popen.pid and footprint.alive(p)]
            if not alive:
                return
            for process in alive:
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(0.01)


def _with_scratch(box: Sandbox, world: World) -> World:
    """With a temporary folder where the level has no root to make one in. It lies where paths are short: a socket's
    has 107 characters at most, and worker processes make sockets there: below a trial's folder a DataLoader hung."""
    if box.level == "bubblewrap":
        return world
    scratch = Path(tempfile.mkdtemp(prefix="gr-"))
    return replace(world, writable={**world.writable, SCRATCH: scratch})


class _Report:
    """What bubblewrap or the launcher says about its work, on a descriptor that the program does not get: an exit code
    is reported only where the world was made and the program began."""

    def __init__(self, box: Sandbox) -> None:
        self.handles: tuple[int, ...] = ()
        self._read, self._box = -1, box
        if box.level in ("bubblewrap", "landlock"):
            self._read, write = os.pipe()
            os.set_blocking(self._read, False)
            self.handles = (write,)

    def asked_for(self, command: list[str]) -> list[str]:
        return self._box.reporting(command, self.handles[0]) if self.handles else command

    def hang_up(self) -> None:
        for handle in self.handles:
            os.close(handle)

    def read(self) -> bool:
        """Whether the program began; to be asked once, when it has ended."""
        if self._read < 0:
            return True
        try:
            return b"exit-code" in os.read(self._read, 1 << 16)
        except BlockingIOError:
            return False
        finally:
            os.close(self._read)


class _Log:
    """Reads a pipe in a thread: keeps head and tail, counts the rest, and says when it is too much."""

    def __init__(self, handle: int, limit: int) -> None:
        self.total, self.full = 0, False
        self._limit, self._handle = limit, handle
        self._head, self._tail = bytearray(), bytearray()
        self._over = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        pipe = select.poll()
        pipe.register(self._handle, select.POLLIN)
        while not self._over:
            if not pipe.poll(200):
                continue
            data = os.read(self._handle, 1 << 16)
            if not data:
                break
            self.total += len(data)
            self.full = self.total > self._limit
            room = LOG_HEAD - len(self._head)
            self._head += data[:room]
            self._tail = (self._tail + data[room:])[-LOG_TAIL:] if len(data) > room else self._tail
            if self.full:
                break
        os.close(self._handle)

    def finish(self) -> bytes:
        self._thread.join(2.0)
        self._over = True  # where something we never saw still holds the other end
        cut = self.total - len(self._head) - len(self._tail)
        gap = b"\n[... %d bytes ...]\n" % cut if cut > 0 else b""
        return bytes(self._head) + gap + bytes(self._tail)


def run(
    box: Sandbox, argv: Sequence[str], world: World, limits: Limits, cancel: threading.Event | None = None,
    on_tick: Callable[[float], None] = lambda _used: None,
) -> Ended:  # fmt: skip
    """Run a command in the world to its end; stdout and stderr are the log."""
    return Process(box, argv, world, limits).wait(cancel, on_tick)
