"""Folders for runs and hooks, in the user's cache: one owner each, gone when done with, swept when the owner died.

An owner holds a lock on a file of its own, `own-ID.lock`, and its folders carry its ID. The lock dies with the process,
so whoever starts next can tell a killed owner's folders from a living one's: in another container or on another machine
too, where process numbers mean nothing.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gitresearch.errors import GitResearchError


class Workdir:
    """This process's part of a shared folder."""

    def __init__(self, top: Path) -> None:
        try:
            top.mkdir(parents=True, exist_ok=True)
            self.top, (self._handle, self._lock) = top, _own(top)
        except OSError as error:
            raise GitResearchError(
                f"can't write {top}: {error.strerror}", "set GITRESEARCH_CACHE to a folder"
            ) from None
        self.owner = self._lock.stem
        sweep(top)

    def folder(self, name: str) -> Path:
        """An empty folder of our own."""
        return Path(tempfile.mkdtemp(prefix=f"{self.owner}-{name}-", dir=self.top))

    @contextmanager
    def borrowed(self, name: str) -> Iterator[Path]:
        """A folder that is removed afterwards, whatever was done in it."""
        top = self.folder(name)
        try:
            yield top
        finally:
            remove(top)

    def close(self) -> None:
        """Remove what is ours, the lock last."""
        if self._handle < 0:
            return
        for path in self.top.glob(f"{self.owner}-*"):
            remove(path)
        self._lock.unlink(missing_ok=True)
        os.close(self._handle)
        self._handle = -1


def _own(top: Path) -> tuple[int, Path]:
    """A new lock, held. One that somebody swept before we held it is given up for another."""
    while True:
        handle, name = tempfile.mkstemp(prefix="own", suffix=".lock", dir=top)
        with suppress(OSError):  # a file system without locks: nothing there is swept either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(name):
            return handle, Path(name)
        os.close(handle)


def sweep(top: Path) -> None:
    """Remove what owners that are dead left behind."""
    found = sorted(top.iterdir())  # folders before locks: a lock is made before its folders and removed after them
    for lock in [path for path in found if path.suffix == ".lock"]:
        with suppress(OSError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in top.glob(f"{lock.stem}-*"):
                remove(path)
            lock.unlink(missing_ok=True)
    for path in found:
        owner = re.match(r"own[^-]*(?=-)", path.name)
        if owner and not (top / f"{owner[0]}.lock").exists():
            remove(path)


def remove(folder: Path) -> None:
    """Remove a folder that a trial wrote in, whatever it did to the modes of its own and however deep."""
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):  # these programs go to any depth
        for command in ("chmod", "-R", "u+rwX"), ("rm", "-rf"):
            subprocess.run([*command, "--", folder], capture_output=True, check=False)
