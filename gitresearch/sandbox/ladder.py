"""Which rung of the ladder holds here, found out by trying it: the first one without a hole is taken."""

import functools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gitresearch.errors import GitResearchError
from gitresearch.sandbox import launcher, seatbelt, selftest
from gitresearch.sandbox.levels import Sandbox, accelerator_nodes, seals_namespaces
from gitresearch.sandbox.world import interpreter

LAUNCHER = os.path.abspath(launcher.__file__)
# What Landlock learnt when, and what is so where it has not.
_LACKING = ((2, "no renaming between folders"), (5, "control calls of any device it may open"))
_RESTRICTED = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")


@dataclass(frozen=True)
class Rung:
    """A level as it stands here. `box` is None where it can't be had; `fault` says why it is not taken."""

    level: str
    box: Sandbox | None
    fault: str


def _bubblewrap() -> Sandbox | str:
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap is not installed"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    sealed = "" if seals_namespaces(program) else " (namespaces not sealed)"
    return Sandbox("bubblewrap", (done.stdout.strip() or "bubblewrap") + sealed, program)


def _landlock() -> Sandbox | str:
    abi = launcher.landlock_abi()
    if abi < 1:
        return "this kernel has no Landlock" if sys.platform == "linux" else "Landlock is Linux's"
    lacking = "".join(f", {what}" for since, what in _LACKING if abi < since)
    return Sandbox("landlock", f"Landlock ABI {abi} and seccomp{lacking}", LAUNCHER, abi)


def _seatbelt() -> Sandbox | str:
    if sys.platform != "darwin" or not os.path.exists(seatbelt.PROGRAM):
        return "Seatbelt is macOS's"
    return Sandbox("seatbelt", "sandbox-exec", seatbelt.PROGRAM)


_RUNGS = {"bubblewrap": _bubblewrap, "landlock": _landlock, "seatbelt": _seatbelt}


def rungs(cache: Path, *, until_one_holds: bool = False) -> list[Rung]:
    """The rungs from the strongest down, each tried; no further than the first that holds if that is asked."""
    found: list[Rung] = []
    for level, find in _RUNGS.items():
        box = find()
        rung = Rung(level, None, box) if isinstance(box, str) else Rung(level, box, _fault(box, cache))
        found.append(rung)
        if until_one_holds and not rung.fault:
            break
    return found


def choose(allow_unsandboxed: bool, cache: Path) -> Sandbox:
    """The strongest rung that holds, by the self-test of its real profile; remembered until the next boot."""
    tried = rungs(cache, until_one_holds=True)
    why = "; ".join(rung.fault for rung in tried if rung.fault and _belongs_here(rung))
    box = tried[-1].box if not tried[-1].fault else None
    if box is not None:
        return box
    if allow_unsandboxed:
        return Sandbox("none", f"limits only ({why})")
    raise GitResearchError(f"no sandbox works here: {why}", hint(tried))


def require_accelerators(box: Sandbox, cache: Path, python: str) -> None:
    """Where there are accelerators and the interpreter has torch, that it sees them inside too, tried once a boot: a
    recipe would train on the CPU without a word."""
    if box.level == "none" or not accelerator_nodes() or not interpreter(python).torch:
        return
    found = selftest.abilities(box, cache, python)
    if unseen := found.get("accelerators", found.get("torch")):  # a program that CUDA took down told of no part
        raise GitResearchError(f"inside {box.description} the accelerators are missing: {unseen}", "gitresearch doctor")


def _belongs_here(rung: Rung) -> bool:
    """Whether a person can do something about it."""
    return rung.level != ("landlock" if sys.platform == "darwin" else "seatbelt")


def hint(tried: list[Rung]) -> str:
    """What to type so that one holds."""
    allow = "pass --allow-unsandboxed to run with limits only"
    if tried[0].box is None:
        return f"apt install bubblewrap, or {allow}"
    if _is_restricted():
        return (
            "let bwrap make user namespaces, which AppArmor forbids here: sudo sysctl -w "
            f"kernel.apparmor_restrict_unprivileged_userns=0 (or give bwrap an AppArmor profile), or {allow}"
        )
    return f"gitresearch doctor, or {allow}"


@functools.cache
def _is_restricted() -> bool:
    """Ubuntu's setting since 23.10: programs without an AppArmor profile get user namespaces that can do nothing."""
    try:
        return os.getuid() != 0 and _RESTRICTED.read_text().strip() == "1"
    except OSError:
        return False


def _fault(box: Sandbox, cache: Path) -> str:
    """Why a rung does not hold here; empty where it does."""
    try:
        holes = selftest.holes(box, cache)
    except GitResearchError as error:
        return error.message
    except OSError as error:
        return f"{box.description} does not start: {error}"
    if not holes:
        return ""
    if holes[0].startswith("does not start"):
        return f"{box.description} {holes[0]}"
    return f"inside {box.description} a program {' and '.join(holes)}"
