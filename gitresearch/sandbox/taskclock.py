"""The kernel's own sum of the processor time of a process and all that it will ever start.

Accounts of children are not enough: a child of a parent that ignores SIGCHLD leaves its time in no account, and one
that lives for less than the time between two looks is never seen (measured: 0.08 s told of 1.44 used). A software event
of perf is inherited by every child, and its count comes back when that ends. It needs no right where
`perf_event_paranoid` is 2 or less; elsewhere there is none, and the accounts have to do. A program that nobody may read
drops it when it starts; that takes intent.
"""

import ctypes
import os
import struct
import sys

_NUMBER = {"x86_64": 298, "aarch64": 241}
_SIZE, _CLOEXEC = 128, 8
_SOFTWARE, _TASK_CLOCK = 1, 1
_FLAGS = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 12  # disabled, inherited, no kernel's (asks for rights), from exec on


class TaskClock:
    """Counts what the calling thread starts from now on, once it executes a program; not the thread itself."""

    def __init__(self) -> None:
        self._handle = -1
        number = _NUMBER.get(os.uname().machine)
        if sys.platform == "linux" and number is not None:
            asked = bytearray(_SIZE)
            struct.pack_into("=IIQ", asked, 0, _SOFTWARE, _SIZE, _TASK_CLOCK)
            struct.pack_into("=Q", asked, 40, _FLAGS)
            library = ctypes.CDLL(None, use_errno=True)
            self._handle = int(library.syscall(number, bytes(asked), 0, -1, -1, _CLOEXEC))

    @property
    def seconds(self) -> float:
        """Processor seconds so far; 0 where there is no such clock."""
        return float(struct.unpack("=Q", os.read(self._handle, 8))[0]) / 1e9 if self._handle >= 0 else 0.0

    def close(self) -> None:
        """Stop counting."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1
