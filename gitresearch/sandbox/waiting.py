"""Waiting for a child's end without polling for it."""

import os
import select
import time
from contextlib import suppress


def until_ended(pid: int, seconds: float, pause: float) -> None:
    """Return once the child has ended (it still has to be reaped), or after `seconds`.

    Woken by the kernel where it can (pidfd, Linux 5.3): a poll every 50 ms adds 25 to each program that is waited for.
    Elsewhere this sleeps for `pause` seconds, and is to be called again.
    """
    with suppress(AttributeError, OSError):
        handle = os.pidfd_open(pid)
        try:
            ready = select.poll()
            ready.register(handle, select.POLLIN)
            ready.poll(max(0.0, seconds) * 1000)
        finally:
            os.close(handle)
        return
    time.sleep(max(0.0, min(seconds, pause)))
