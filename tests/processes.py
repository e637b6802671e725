"""Whether a process is gone, for tests of what must not outlive its run."""

import time

import psutil


def gone(word: str, seconds: float = 1.0) -> bool:
    """Whether no process with this argument is left after a while."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(word in (p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])):
            return True
        time.sleep(0.02)
    return False
