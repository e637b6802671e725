"""The gate between warming up and a timed task: a program knocks, its task is handed over, and its clock starts.

It opens once. What the program used before is counted and limited by itself; all that any of its processes uses after
is the task's. A program that never knocks stays before the gate.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Gate:
    """Where a program waits. `wall_seconds` and `cpu_seconds` (None: don't count) bound the time before it."""

    def __init__(self, wall_seconds: float, cpu_seconds: float | None, hand_over: Callable[[], None]) -> None:
        self.wall_seconds, self.cpu_seconds, self._hand_over = wall_seconds, cpu_seconds, hand_over
        self.opened = False
        ours, theirs = socket.socketpair()
        self._ours, self.handle = ours.detach(), theirs.detach()  # `handle` is the program's end, under this number
        os.set_blocking(self._ours, False)

    @contextmanager
    def held(self) -> Iterator["Gate"]:
        """The gate, for as long as the block runs."""
        try:
            yield self
        finally:
            os.close(self._ours)
            self.hang_up()

    def hang_up(self) -> None:
        """Close our copy of the program's end: it has its own."""
        if self.handle >= 0:
            os.close(self.handle)
        self.handle = -1

    def knocked(self) -> bool:
        """Whether the program is ready and the gate still closed."""
        if self.opened:
            return False
        with suppress(OSError):
            return os.read(self._ours, 1) != b""
        return False

    def open(self) -> None:
        """Hand over, and tell the program."""
        self.opened = True
        self._hand_over()
        with suppress(OSError):  # it may be gone
            os.write(self._ours, b"\n")
