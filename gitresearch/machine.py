"""What a run runs on: facts that are cheap to know, and not the program's to say. Its outcome tells them, and what a
study needs of them is asked before a trial is spent."""

import functools
import glob
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gitresearch.errors import GitResearchError
from gitresearch.sandbox import interpreter
from gitresearch.study import Budget


@functools.cache
def facts(python: str) -> Mapping[str, Any]:
    """Flat facts about an interpreter and this machine."""
    found = interpreter(python)
    known = {
        "python": found.version,
        "torch": found.torch,
        "platform": platform.platform(terse=True),
        "processor": _processor(),
        "accelerator": _accelerator(),
        "cores": os.cpu_count() or 0,
    }
    return {name: value for name, value in known.items() if value}


def require(budget: Budget) -> None:
    """An error where a study asks for an accelerator and the machine has none."""
    if budget.accelerator and not has_accelerator():
        why = "the study asks for an accelerator, and this machine shows none (no /dev/nvidia*, no /dev/kfd)"
        raise GitResearchError(why, "nvidia-smi, or: gitresearch init --recipe NAME --scale mini")


def doubts(budget: Budget, python: str) -> Iterator[str]:
    """What speaks against a study's runs on this machine, by this interpreter, though they may well fit."""
    has = memory_mb()
    if has and budget.memory_mb > has:
        may = f"a run may take {budget.memory_mb} MB (budget.memory_mb)"
        yield f"{may} and this machine has {has}: what takes more crashes"
    if budget.accelerator and (torch := interpreter(python).torch).endswith("+cpu"):
        mend = f"{python} -m pip install --force-reinstall torch"
        yield f"torch {torch} finds no accelerator, and the study asks for one; try: {mend}"


def has_accelerator() -> bool:
    """Whether the kernel shows a GPU that trains; /dev/dri alone is a display."""
    return bool(glob.glob("/dev/nvidia[0-9]*") or glob.glob("/dev/kfd"))


def memory_mb() -> int:
    """What this machine, or the container around us, has; 0 where nobody tells."""
    found = [int(_value(Path("/proc/meminfo"), "MemTotal").removesuffix("kB") or 0) >> 10]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # of control groups, in their two versions
        with suppress(OSError, ValueError):  # "max" is no number, and no limit
            found.append(int(Path("/sys/fs/cgroup", name).read_text()) >> 20)
    return min(found)


def _processor() -> str:
    return _value(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine()


def _accelerator() -> str:
    """The models of NVIDIA's driver, each once with its number."""
    models = [_value(path, "Model") for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    return ", ".join(f"{models.count(model)} x {model}" for model in dict.fromkeys(models) if model)


def _value(path: Path, key: str) -> str:
    """The first `key : value` of a file of the kernel's."""
    with suppress(OSError):
        for line in path.read_text(errors="replace").split("\n"):
            if line.startswith(key):
                return line.partition(":")[2].strip()
    return ""
