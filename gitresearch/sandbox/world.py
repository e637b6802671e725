"""What a program is given and held to, and how it ended; the command line that makes an empty world of it."""

import functools
import glob
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gitresearch.errors import GitResearchError
from gitresearch.sandbox.gate import Gate

TRIAL = "/trial"


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
    gate: Gate | None = None  # what it waits at before its task; its clock starts there


@dataclass(frozen=True)
class Ended:
    """How a program ended. `stopped_by` names the limit that ended it, or `cancelled`; empty where it ended itself.
    `began` is False where its world could not be made, which is no fault of its own. Seconds count from the gate, where
    there is one; `warmup_seconds` are those before it, by the clock that counts."""

    exit_code: int
    stopped_by: str
    cpu_seconds: float
    wall_seconds: float
    peak_memory_bytes: int
    log: bytes
    log_bytes: int
    began: bool = True
    warmup_seconds: float = 0.0

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
    size = str(limits.disk_bytes)
    flags += ["--ro-bind", "/sys", "/sys", "--dev", "/dev", "--proc", "/proc"]
    for device in _accelerators():
        flags += ["--dev-bind-try", device, device]
    flags += ["--size", size, "--tmpfs", "/tmp", "--size", size, "--tmpfs", "/dev/shm"]  # noqa: S108  (inside)
    for folder in interpreter_folders(world.python):  # after /tmp: it may lie there
        flags += ["--ro-bind", folder, folder]
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


@dataclass(frozen=True)
class Interpreter:
    """What an interpreter says of itself. `torch` is the version installed for it, empty for none."""

    folders: tuple[str, ...]
    version: str
    torch: str


_ASK = """
import sys, platform
from importlib import metadata
print(sys.prefix, sys.base_prefix, sys.exec_prefix, platform.python_version(), sep="\\n")
print(next((found.version for found in metadata.distributions(name="torch")), ""))
"""


@functools.cache
def interpreter(python: str) -> Interpreter:
    """Ask an interpreter what it is; GitResearchError where it does not start."""
    done = subprocess.run([python, "-I", "-c", _ASK], capture_output=True, text=True, check=False)
    lines = done.stdout.split("\n")
    if done.returncode or len(lines) < 5:
        raise GitResearchError(f"the interpreter {python} does not start", "edit recipe.python in study.toml")
    return Interpreter(tuple(lines[:3]), lines[3], lines[4])


@functools.cache
def interpreter_folders(python: str) -> tuple[str, ...]:
    """The folders an interpreter needs to see: its prefix and its base prefix, outside /usr."""
    folders = interpreter(python).folders
    return _shown({*folders, *map(os.path.realpath, folders)}, python)


def _shown(folders: Iterable[str], python: str) -> tuple[str, ...]:
    """Those of the folders that are not shown anyway; an error where one holds what a trial must not see."""
    outside_usr = {f for f in folders if f not in ("/usr", "/") and not f.startswith("/usr/")}
    for folder in outside_usr:
        home, repository = Path.home().is_relative_to(folder), Path(folder, ".git").exists()
        if home or repository:
            what = "your home" if home else "a repository"
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
