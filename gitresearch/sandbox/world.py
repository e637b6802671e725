"""What a program is given and held to, how it ended, and which folders its interpreter needs."""

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gitresearch.errors import GitResearchError
from gitresearch.sandbox.channel import Channel
from gitresearch.sandbox.gate import Gate

TRIAL, SCRATCH = "/trial", "/tmp"  # noqa: S108  (inside)


@dataclass(frozen=True)
class Limits:
    """Where a run is stopped. Seconds and bytes; `cpu_seconds` None where the wall clock counts alone."""

    wall_seconds: float
    cpu_seconds: float | None = None
    memory_bytes: int = 8 << 30
    disk_bytes: int = 2 << 30
    log_bytes: int = 16 << 20
    processes: int = 256
    open_files: int = 4096


@dataclass(frozen=True)
class World:
    """What a program sees: its files (writable, at /trial), and folders by their path inside."""

    root: Path
    read_only: Mapping[str, Path] = field(default_factory=dict)
    writable: Mapping[str, Path] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    gate: Gate | None = None  # what it waits at before its task; its clock starts there
    channel: Channel | None = None  # on which it may say how far it is


@dataclass(frozen=True)
class Ended:
    """How a program ended. `stopped_by` names the limit that ended it, `cancelled`, or why who heeds its channel had it
    stopped; empty where it ended itself. `began` is False where its world could not be made, no fault of its
    own. Seconds count from the gate, where there is one; `warmup_seconds` are those before it, by the same clock.
    """

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
