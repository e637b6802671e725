"""The levels of the ladder: for each, the command line that makes an empty world of a program's own.

`bubblewrap` has a root of its own, in which things lie at their paths inside. The others have none: there the same
things are readable and writable where they are, and nothing else is (`landlock`, `seatbelt`), or everything (`none`).
"""

import functools
import glob
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from gitresearch.sandbox import seatbelt
from gitresearch.sandbox.world import SCRATCH, TRIAL, Limits, World, interpreter_folders

LEVELS = ("bubblewrap", "landlock", "seatbelt", "none")
# What both a root of its own and rules on the whole machine's show of /etc: no names of users, no hosts.
_ETC = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib64", "/lib32")


@dataclass(frozen=True)
class Sandbox:
    """A rung of the ladder, chosen by `choose`."""

    level: str  # one of LEVELS
    description: str
    program: str = ""
    abi: int = 0  # of Landlock

    def path(self, world: World, inside: str) -> str:
        """Where the program finds what is mounted at `inside`."""
        if self.level == "bubblewrap":
            return inside
        mounted = {TRIAL: world.root, **world.read_only, **world.writable}
        return str(mounted[inside])

    def command(self, argv: Sequence[str], world: World, limits: Limits) -> list[str]:
        """The command line that runs argv in the world."""
        if self.level == "landlock":
            return [*_landlock_words(self, world, limits), "--", *argv]
        if self.level == "seatbelt":
            shown = [*interpreter_folders(world.python), *map(os.path.realpath, world.read_only.values())]
            written = [os.path.realpath(folder) for folder in (world.root, *world.writable.values())]
            return _limited([self.program, "-p", seatbelt.profile(shown, written), *argv], limits)
        if self.level == "none":
            tie = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
            return _limited([*tie, *argv], limits)
        flags = _bubblewrap_flags(world, limits)
        if seals_namespaces(self.program):
            flags.append("--disable-userns")
        return _limited([self.program, *flags, "--", *argv], limits)

    def reporting(self, command: Sequence[str], handle: int) -> list[str]:
        """The command, told to say on a descriptor whether the program began."""
        flag = {"bubblewrap": ["--json-status-fd", str(handle)], "landlock": [f"--report={handle}"]}[self.level]
        at = command.index(self.program) + 1
        return [*command[:at], *flag, *command[at:]]


def _limited(command: list[str], limits: Limits) -> list[str]:
    """Under the limits that the kernel holds for each process, set before anything can have been forked: bubblewrap
    forks within a millisecond. A shell is everywhere, and its `-f` counts blocks of 512 bytes (POSIX)."""
    files = min(limits.open_files, _hard_files())
    script = f'ulimit -c 0; ulimit -n {files}; ulimit -f {limits.disk_bytes // 512}; exec "$@"'
    return ["/bin/sh", "-c", script, "sh", *command]


def _hard_files() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


def _landlock_words(box: Sandbox, world: World, limits: Limits) -> list[str]:
    """What may be read and written, told to the launcher. What the system lacks is left out; what the trial lacks is
    an error there."""
    shown = [f"--read={path}" for path in ("/usr", *_SYSTEM, *_ETC) if os.path.exists(path)]
    shown += [f"--read={path}" for path in (*interpreter_folders(world.python), *world.read_only.values())]
    shown += ["--see=/proc", "--see=/sys"]
    shown += [f"--device=/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")]
    shown += [f"--device={node}" for node in accelerator_nodes()]
    # Semaphores and tensors that workers share lie here, by name, beside everybody's.
    shown += ["--share=/dev/shm"] if os.path.isdir("/dev/shm") else []  # noqa: S108
    shown += [f"--write={path}" for path in (world.root, *world.writable.values())]
    numbers = [f"--abi={box.abi}", f"--files={limits.open_files}", f"--bytes={limits.disk_bytes}"]
    numbers += ["--threads=1"] if accelerator_nodes() else []
    return [sys.executable, "-I", "-S", box.program, *numbers, *shown]


def _bubblewrap_flags(world: World, limits: Limits) -> list[str]:
    """The minimal root. `--ro-bind / /` would show keys and hidden labels (measured); so only what is needed."""
    flags = ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM:
        if os.path.islink(name):
            flags += ["--symlink", os.readlink(name).lstrip("/"), name]
        elif os.path.isdir(name):
            flags += ["--ro-bind", name, name]
    for name in _ETC:
        flags += ["--ro-bind-try", name, name]
    size = str(limits.disk_bytes)
    flags += ["--ro-bind", "/sys", "/sys", "--dev", "/dev", "--proc", "/proc"]
    for device in accelerator_nodes():
        flags += ["--dev-bind-try", device, device]
    flags += ["--size", size, "--tmpfs", SCRATCH, "--size", size, "--tmpfs", "/dev/shm"]  # noqa: S108  (inside)
    for folder in interpreter_folders(world.python):  # after /tmp: it may lie there
        flags += ["--ro-bind", folder, folder]
    for inside, outside in world.read_only.items():
        flags += ["--ro-bind", str(outside), inside]
    for inside, outside in {TRIAL: world.root, **world.writable}.items():
        flags += ["--bind", str(outside), inside]
    # What bubblewrap makes itself is writable and without a limit. And in /proc/sys root is root without capabilities
    # too: a trial of a root user could set the host's core_pattern, which the kernel runs as root (measured, 0.8.0).
    flags += [*_shut_proc(), "--remount-ro", "/dev", "--remount-ro", "/"]
    flags += ["--chdir", TRIAL, "--unshare-all", "--unshare-user", "--die-with-parent"]
    return [*flags, "--new-session", "--cap-drop", "ALL"]


def _shut_proc() -> list[str]:
    """/proc, to be read alone. But CUDA's first call writes the names of its threads there, and gives up where it
    can't (error 304, an H100 with driver 580): where there are accelerators, all but what belongs to processes. Files
    that nobody may write too: their owner, who is a root user's trial, could change their mode on the whole machine."""
    if not accelerator_nodes():
        return ["--remount-ro", "/proc"]
    with os.scandir("/proc") as found:
        shut = sorted(entry.path for entry in found if not entry.name.isdigit() and not entry.is_symlink())
    return [word for path in shut for word in ("--ro-bind-try", path, path)]


@functools.cache
def seals_namespaces(program: str) -> bool:
    """Whether this bubblewrap can deny namespaces inside its own: since 0.8; Ubuntu 22.04 has 0.6."""
    done = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    return "--disable-userns" in done.stdout + done.stderr


def accelerator_nodes() -> list[str]:
    """Device nodes of GPUs. They must be bound with --dev-bind and after --dev, or CUDA silently finds nothing."""
    return sorted([*glob.glob("/dev/nvidia*"), *glob.glob("/dev/kfd"), *glob.glob("/dev/dri")])


def environment(box: Sandbox, world: World) -> dict[str, str]:
    """The whole environment of the program: nothing is inherited, so no key can be."""
    scratch = SCRATCH if box.level == "bubblewrap" else str(world.writable[SCRATCH])
    bin_folder = os.path.dirname(world.python)
    base = {"PATH": f"{bin_folder}:/usr/local/bin:/usr/bin:/bin", "HOME": scratch, "TMPDIR": scratch}
    base |= {"USER": "trial", "LOGNAME": "trial"}  # there is no /etc/passwd to find a name in
    base |= {"LANG": "C.UTF-8", "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    base["PYTHONUNBUFFERED"] = "1"  # a killed program's last words are in the log
    base["TORCHINDUCTOR_CACHE_DIR"] = f"{scratch}/inductor"
    return base | dict(world.env)
