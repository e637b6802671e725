"""Cores for runs that are to share one: what two programs on one core take turns on slows both alike."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Cores:
    """The cores that this process may use, each given to as few at a time as can be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[int] = Counter()

    @contextmanager
    def one(self) -> Iterator[int | None]:
        """Hold this thread, and the threads and processes that it starts meanwhile, to one core. None, and nothing is
        held, where the system can't (macOS)."""
        if not hasattr(os, "sched_setaffinity"):
            yield None
            return
        before = os.sched_getaffinity(0)
        with self._lock:
            core = min(sorted(before), key=lambda one: self._taken[one])
            self._taken[core] += 1
        os.sched_setaffinity(0, {core})
        try:
            yield core
        finally:
            os.sched_setaffinity(0, before)
            with self._lock:
                self._taken[core] -= 1
