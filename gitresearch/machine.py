"""What a run runs on, as its outcome tells it: facts that are cheap to know, and not the program's to say."""

import functools
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gitresearch.sandbox import interpreter


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
