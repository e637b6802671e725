"""Run a trial's program in an empty world, with clock and limits held from outside.

What is covered at level `bubblewrap`: the program sees /usr, the interpreter's folders, its files at /trial and what
is mounted for it, all read-only but /trial, /artefact, /tmp and /dev/shm; no network, no other processes, no keys, no
user namespaces of its own; it ends with us, and nothing it started outlives it. Level `none` covers limits only (time,
memory, processes, log, size of one file): the program can read and write whatever the user can, and outcomes say so.

What is not covered at either level: side channels through timing and caches, bugs of the kernel, memory of an
accelerator. Memory, disk and processes are counted by polling 20 times a second, so a limit can be passed for 50 ms.

The clock is the parent's: CPU seconds of the whole process tree by the kernel's accounting, wall seconds by the
monotonic clock. What the program does to its own clock changes nothing.
"""

import functools
import glob
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from gitresearch.errors import GitResearchError

POLL_SECONDS = 0.05
TRIAL = "/trial"
LOG_HEAD, LOG_TAIL = 64 * 1024, 256 * 1024


@dataclass(frozen=True)
class Limits:
    """Where a run is stopped. Seconds and bytes; `cpu_seconds` None where the wall clock counts alone."""

    wall_seconds: float
    cpu_seconds: float | None = None
    memory_bytes: int = 8 << 30
    disk_bytes: int = 2 << 30
    log_bytes: int = 16 << 20
    processes: int = 256


@dataclass(frozen=True)
class World:
    """What a program sees: its files (writable, at /trial), and folders by their path inside."""

    root: Path
    read_only: Mapping[str, Path] = field(default_factory=dict)
    writable: Mapping[str, Path] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable


@dataclass(frozen=True)
class Ended:
    """How a program ended. `stopped_by` names the limit that ended it, or `cancelled`; empty where it ended itself."""

    exit_code: int
    stopped_by: str
    cpu_seconds: float
    wall_seconds: float
    peak_memory_bytes: int
    log: bytes
    log_bytes: int

    @property
    def signal_name(self) -> str:
        """The signal that ended it, empty for none. Shells and bubblewrap report 128 + n."""
        number = -self.exit_code if self.exit_code < 0 else self.exit_code - 128 if self.exit_code > 128 else 0
        try:
            return signal.Signals(number).name if number else ""
        except ValueError:
            return ""


@dataclass(frozen=True)
class Sandbox:
    """A rung of the ladder, chosen by `choose`."""

    level: str  # "bubblewrap" or "none"
    description: str
    program: str = ""

    def path(self, world: World, inside: str) -> str:
        """Where the program finds what is mounted at `inside`."""
        if self.level != "none":
            return inside
        mounted = {TRIAL: world.root, **world.read_only, **world.writable}
        return str(mounted[inside])

    def command(self, argv: Sequence[str], world: World, limits: Limits) -> list[str]:
        """The command line that runs argv in the world."""
        if self.level == "none":
            tie = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
            return [*tie, *argv]
        flags = _bubblewrap_flags(world, limits)
        if seals_namespaces(self.program):
            flags.append("--disable-userns")
        return [self.program, *flags, "--", *argv]


def _bubblewrap_flags(world: World, limits: Limits) -> list[str]:
    """The minimal root. `--ro-bind / /` would show keys and hidden labels (measured); so only what is needed."""
    flags = ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib64", "/lib32"):
        if os.path.islink(name):
            flags += ["--symlink", os.readlink(name).lstrip("/"), name]
        elif os.path.isdir(name):
            flags += ["--ro-bind", name, name]
    for name in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"):
        flags += ["--ro-bind-try", name, name]
    for folder in interpreter_folders(world.python):
        flags += ["--ro-bind", folder, folder]
    size = str(limits.disk_bytes)
    flags += ["--ro-bind", "/sys", "/sys", "--dev", "/dev", "--proc", "/proc"]
    for device in _accelerators():
        flags += ["--dev-bind-try", device, device]
    flags += ["--size", size, "--tmpfs", "/tmp", "--size", size, "--tmpfs", "/dev/shm"]  # noqa: S108  (inside)
    for inside, outside in world.read_only.items():
        flags += ["--ro-bind", str(outside), inside]
    for inside, outside in {TRIAL: world.root, **world.writable}.items():
        flags += ["--bind", str(outside), inside]
    # What bubblewrap makes itself is writable and without a limit. And in /proc/sys root is root without capabilities
    # too: a trial of a root user could set the host's core_pattern, which the kernel runs as root (measured, 0.8.0).
    flags += ["--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"]
    flags += ["--chdir", TRIAL, "--unshare-all", "--unshare-user", "--die-with-parent"]
    return [*flags, "--new-session", "--cap-drop", "ALL"]


@functools.cache
def seals_namespaces(program: str) -> bool:
    """Whether this bubblewrap can deny namespaces inside its own: since 0.8; Ubuntu 22.04 has 0.6."""
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    return "--disable-userns" in done.stdout + done.stderr


def _accelerators() -> list[str]:
    """Device nodes of GPUs. They must be bound with --dev-bind and after --dev, or CUDA silently finds nothing."""
    return sorted([*glob.glob("/dev/nvidia*"), *glob.glob("/dev/kfd"), *glob.glob("/dev/dri")])


@functools.cache
def interpreter_folders(python: str) -> tuple[str, ...]:
    """The folders an interpreter needs to see: its prefix and its base prefix, outside /usr."""
    code = "import sys; print(sys.prefix); print(sys.base_prefix); print(sys.exec_prefix)"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise GitResearchError(f"the interpreter {python} does not start", "edit recipe.python in study.toml")
    folders = {os.path.realpath(line) for line in done.stdout.split("\n") if line} | set(done.stdout.split("\n"))
    return _shown(folders, python)


def _shown(folders: Iterable[str], python: str) -> tuple[str, ...]:
    """Those of the folders that are not shown anyway; an error where one holds what a trial must not see."""
    outside_usr = {f for f in folders if f and f not in ("/usr", "/") and not f.startswith("/usr/")}
    for folder in outside_usr:
        what = (
            "your home"
            if Path.home().is_relative_to(folder)
            else "a repository"
            if Path(folder, ".git").exists()
            else ""
        )
        if what:
            raise GitResearchError(
                f"trials would see {what}: it is in {folder}, which the interpreter {python} needs",
                "python3 -m venv .venv",
            )
    return tuple(sorted(outside_usr))


def environment(box: Sandbox, world: World) -> dict[str, str]:
    """The whole environment of the program: nothing is inherited, so no key can be."""
    scratch = "/tmp" if box.level != "none" else str(world.root / ".tmp")  # noqa: S108
    if box.level == "none":
        os.makedirs(scratch, exist_ok=True)
    bin_folder = os.path.dirname(world.python)
    base = {"PATH": f"{bin_folder}:/usr/local/bin:/usr/bin:/bin", "HOME": scratch, "TMPDIR": scratch}
    base |= {"USER": "trial", "LOGNAME": "trial"}  # there is no /etc/passwd to find a name in
    base |= {"LANG": "C.UTF-8", "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    base["PYTHONUNBUFFERED"] = "1"  # a killed program's last words are in the log
    base["TORCHINDUCTOR_CACHE_DIR"] = f"{scratch}/inductor"
    return base | dict(world.env)


class Process:
    """A program running in its world. `wait` watches it from the calling thread until it ended or met a limit."""

    def __init__(
        self, box: Sandbox, argv: Sequence[str], world: World, limits: Limits,
        stdin: int = subprocess.DEVNULL, stdout: int | None = None,
    ) -> None:  # fmt: skip
        self.limits, self.world = limits, world
        read, write = os.pipe()
        try:
            self._popen = subprocess.Popen(
                box.command(argv, world, limits), stdin=stdin, stdout=write if stdout is None else stdout, stderr=write,
                cwd=world.root, env=environment(box, world), start_new_session=True, close_fds=True,
            )  # fmt: skip
        except OSError as error:
            os.close(read)
            raise GitResearchError(f"can't start {argv[0]}: {error.strerror}", "edit study.toml") from None
        finally:
            os.close(write)
        self.started = time.monotonic()
        # After the fork: preexec_fn is not safe beside threads. The program may have forked already; the pollers count.
        with suppress(ProcessLookupError, PermissionError, ValueError, AttributeError):
            resource.prlimit(self._popen.pid, resource.RLIMIT_FSIZE, (limits.disk_bytes, limits.disk_bytes))
            resource.prlimit(self._popen.pid, resource.RLIMIT_CORE, (0, 0))
        self._log = _Log(read, limits.log_bytes)
        self.cpu = 0.0
        self.peak = 0
        self._seen: dict[psutil.Process, float] = {}  # CPU seconds of its own that each process had when last seen
        self._past = 0.0  # of those that are gone

    @property
    def wall(self) -> float:
        return time.monotonic() - self.started

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
            raise
        wall = self.wall
        self._end_survivors()
        log = self._log.finish()
        return Ended(status, stopped_by or self._late(), self.cpu, wall, self.peak, log, self._log.total)

    def _watch(self, cancel: threading.Event | None, on_tick: Callable[[float], None]) -> tuple[int, str]:
        """Exit code and the limit that was met, if one was."""
        last_tick, last_disk = 0.0, self.started
        while (status := self._reap()) is None:
            stopped_by = self._over(self._measure(), cancel)
            if not stopped_by and time.monotonic() - last_disk > 1.0:
                stopped_by = "disk" if self._disk() > self.limits.disk_bytes else ""
                last_disk = time.monotonic()
            if stopped_by:
                self.kill()
                return self._reap(block=True) or 0, stopped_by
            if self.wall - last_tick > 0.5:
                last_tick = self.wall
                on_tick(self.cpu if self.limits.cpu_seconds is not None else self.wall)
            time.sleep(POLL_SECONDS if self.wall > 0.5 else POLL_SECONDS / 10)
        return status, ""

    def _late(self) -> str:
        """The limit that a program had passed when it ended by itself, before that was seen."""
        limits = self.limits
        if self._log.full:
            return "log"
        if limits.cpu_seconds is not None and self.cpu > limits.cpu_seconds:
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
        self.cpu = max(self.cpu, usage.ru_utime + usage.ru_stime)
        self.peak = max(self.peak, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
        return code

    def _measure(self) -> int:
        """CPU seconds and memory of the tree now; the number of its processes.

        What ended counts by its parent's account of children it waited for, or by what was last seen of it: a parent
        that ignores SIGCHLD has no such account.
        """
        try:
            top = psutil.Process(self._popen.pid)
            tree = {top, *top.children(recursive=True)}
        except psutil.Error:
            return 0
        tree |= {process for process in self._seen.keys() - tree if _alive(process)}
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
        self.cpu = max(self.cpu, sum(self._seen.values()) + max(waited, self._past))
        used = private + shared
        self.peak = max(self.peak, used if used <= self.limits.memory_bytes else min(used, _proportional(tree)))
        return len(tree)

    def _over(self, processes: int, cancel: threading.Event | None) -> str:
        limits = self.limits
        checks = (
            ("cancelled", cancel is not None and cancel.is_set()),
            ("cpu", limits.cpu_seconds is not None and self.cpu > limits.cpu_seconds),
            ("wall", self.wall > limits.wall_seconds),
            ("memory", self.peak > limits.memory_bytes),
            ("processes", processes > limits.processes),
            ("log", self._log.full),
        )
        return next((name for name, over in checks if over), "")

    def _disk(self) -> int:
        return sum(_size(folder) for folder in (self.world.root, *self.world.writable.values()))

    def kill(self) -> None:
        """End the whole tree now."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def _end_survivors(self) -> None:
        """Nothing a program started outlives it; those that left its process group are found by having been seen."""
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            alive = [p for p in self._seen if p.pid != self._popen.pid and _alive(p)]
            if not alive:
                return
            for process in alive:
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(0.01)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _proportional(processes: Iterable[psutil.Process]) -> int:
    """Bytes of memory with shared pages counted once: exact, but too slow to ask for twenty times a second. Processes
    forked from a large one share its pages, and the quick sum counts those for each."""
    total = 0
    for process in processes:
        with suppress(psutil.Error, OSError):
            memory = process.memory_info().rss
            with suppress(psutil.Error, OSError):
                memory = getattr(process.memory_full_info(), "pss", memory)
            total += memory
    return total


def _size(folder: Path) -> int:
    """Bytes under a folder, links not followed."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(path, name)).st_blocks * 512
    return total


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


# Runs inside: prints what it could reach. Every word but `started` is a hole.
_PROBE = """
import os, socket, sys
secret, outside, port, pid = sys.argv[1:]
found = ["started"]
def attempt(word, act):
    try:
        act()
        found.append(word)
    except OSError:
        pass
attempt("read a secret", lambda: open(secret).read())
attempt("wrote outside", lambda: open(outside, "w").write("x"))
attempt("reached the network", lambda: socket.create_connection(("127.0.0.1", int(port)), 0.5))
attempt("reached a process", lambda: os.kill(int(pid), 0))
attempt("read an environment", lambda: open(f"/proc/{pid}/environ", "rb").read())
attempt("wrote the root", lambda: os.rmdir(os.mkdir("/gitresearch-probe") or "/gitresearch-probe"))
attempt("could set the kernel", lambda: open("/proc/sys/kernel/core_pattern", "a").close())
print("|".join(found))
"""


def probe(box: Sandbox) -> list[str]:
    """What a program inside could do that it must not, by trying it; `does not start` where it doesn't run at all."""
    with tempfile.TemporaryDirectory() as top, socket.create_server(("127.0.0.1", 0)) as server:
        secret, outside = Path(top, "secret"), Path(top, "outside")
        secret.write_text("canary")
        root = Path(top, "trial")
        root.mkdir()
        victim = subprocess.Popen(["sleep", "20"], stdout=subprocess.DEVNULL)
        try:
            port = str(server.getsockname()[1])
            argv = [sys.executable, "-I", "-c", _PROBE, str(secret), str(outside), port, str(victim.pid)]
            ended = run(box, argv, World(root), Limits(wall_seconds=10))
        finally:
            victim.kill()
            victim.wait()
        words = ended.log.decode("utf-8", "replace").strip().split("\n")[-1].split("|")
        if words[0] != "started":
            return [f"does not start: {words[0][:200]}"]
        return words[1:] + (["wrote outside"] if outside.exists() and "wrote outside" not in words else [])


def choose(allow_unsandboxed: bool, cache: Path) -> Sandbox:
    """The strongest rung that holds, by the self-test of its real profile; remembered until the next boot."""
    program = shutil.which("bwrap")
    why = "bubblewrap is not installed"
    if program:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        sealed = "" if seals_namespaces(program) else " (namespaces not sealed)"
        box = Sandbox("bubblewrap", (done.stdout.strip() or "bubblewrap") + sealed, program)
        why = _fault(box, cache)
        if not why:
            return box
    if allow_unsandboxed:
        return Sandbox("none", f"limits only ({why})")
    raise GitResearchError(
        f"no sandbox works here: {why}", "apt install bubblewrap, or pass --allow-unsandboxed to run with limits only"
    )


def _fault(box: Sandbox, cache: Path) -> str:
    """Why a rung does not hold here; empty where it does."""
    try:
        holes = _remembered_probe(box, cache)
    except GitResearchError as error:
        return error.message
    if not holes:
        return ""
    if holes[0].startswith("does not start"):
        return f"{box.description} {holes[0]}"
    return f"inside {box.description} a program {' and '.join(holes)}"


def _remembered_probe(box: Sandbox, cache: Path) -> list[str]:
    """The probe's finding, from the cache where it was made since this boot by this interpreter and program."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    profile = [*box.command([_PROBE], World(Path()), Limits(0)), sys.executable]
    key = [boot, *profile, box.description, os.getuid(), os.stat(box.program).st_mtime_ns]
    memory = cache / "sandbox.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(memory.read_text())
        if boot and known["key"] == key:
            return [str(hole) for hole in known["holes"]]
    holes = probe(box)
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        staged = memory.with_suffix(f".{os.getpid()}")
        staged.write_text(json.dumps({"key": key, "holes": holes}))
        staged.replace(memory)
    return holes
