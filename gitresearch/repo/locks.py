"""Who may write: one lock for all of gitresearch's writers of a repository, and the leftovers of those that died.

The lock is the kernel's (flock), so it dies with its process. Whoever holds it first notes which lock files of git's it
is about to make (the intent). A next holder that finds an intent knows that its writer is dead, and that these files
are stale. Lock files of other programs count as stale once they are a minute old, or older than the machine's last
start, and no live process has them open and no git program runs that was there when they were made.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from gitresearch.errors import GitResearchError
from gitresearch.repo.objects import discard

WAIT_SECONDS = 60.0
SETTLE_SECONDS = 0.1  # a live git holds a ref's lock file for a few milliseconds
STALE_SECONDS = 60.0


class Busy(GitResearchError):
    """Another process holds the lock."""


class KernelLock:
    """One named lock under `.git/gitresearch/`. It excludes threads and processes alike; it is not reentrant."""

    def __init__(self, common_dir: Path, name: str) -> None:
        self._dir = str(common_dir)
        self._home = common_dir / "gitresearch"
        self._path = str(self._home / f"{name}.lock")

    @contextmanager
    def __call__(self, wait: float = WAIT_SECONDS) -> Iterator["Held"]:
        """Hold the lock. Busy where another one holds it for longer than `wait` seconds."""
        # A descriptor of its own for each holder: a forked child would share ours and pass through.
        handle = self._open()
        try:
            if not _flock(handle, wait):
                raise Busy(f"another gitresearch holds {self._path}", f"fuser -v '{self._path}'")
            held = Held(handle, self._dir)
            held.recover()
            try:
                yield held
            finally:
                held.done()
        finally:
            os.close(handle)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            self._home.mkdir(exist_ok=True)
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)


class Held:
    """The lock while it is held. `descriptor` keeps it held in a child process that inherits it. The lock file holds
    the intent: paths by line, up to a NUL."""

    def __init__(self, descriptor: int, common_dir: str) -> None:
        self.descriptor = descriptor
        self.recovered: list[str] = []
        self._dir = common_dir
        self._intends = False

    def intend(self, *locks: str) -> None:
        """Say which lock files are about to be made."""
        os.pwrite(self.descriptor, os.fsencode("\n".join(locks)) + b"\0", 0)
        self._intends = True

    def recover(self) -> None:
        """Remove the lock files of a holder that died with the lock in its hands."""
        left = os.pread(self.descriptor, 8192, 0).partition(b"\0")[0]
        if not left:
            return
        for path in os.fsdecode(left).split("\n"):
            if path.startswith(self._dir) and path.endswith(".lock") and _same_after(path, SETTLE_SECONDS):
                discard(path)
                self.recovered.append(os.path.relpath(path, self._dir))
        self._intends = True

    def done(self) -> None:
        """What raised has cleaned up behind itself; only a killed holder leaves its intent."""
        if self._intends:
            os.pwrite(self.descriptor, b"\0", 0)


def clear_old_locks(common_dir: Path) -> list[str]:
    """Remove the stale lock files of any program on the refs and files that gitresearch writes. Their paths."""
    # A power cut ends every writer, and leaves no intent that could be relied on.
    limit = min(STALE_SECONDS, time.time() - psutil.boot_time())
    old = {path for path in _lock_files(common_dir) if _age(path) > limit}
    stale = sorted(old - _in_use(old)) if old else []
    for path in stale:
        discard(path)
    return [os.path.relpath(path, common_dir) for path in stale]


def _flock(handle: int, wait: float) -> bool:
    deadline, pause = time.monotonic() + wait, 0.0005
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, 0.01)
        else:
            return True


def _lock_files(common_dir: Path) -> Iterator[str]:
    for name in ("packed-refs.lock", "config.lock"):
        if (common_dir / name).exists():
            yield str(common_dir / name)
    for root in ("refs/notes/gitresearch", "refs/gitresearch", "refs/heads/trial", "refs/heads/best"):
        for folder, _, names in os.walk(common_dir / root):
            yield from (os.path.join(folder, name) for name in names if name.endswith(".lock"))


def _age(path: str) -> float:
    try:
        return time.time() - os.stat(path).st_mtime
    except OSError:
        return 0.0


def _same_after(path: str, seconds: float) -> bool:
    """Whether the very same file is still there after a while."""
    try:
        before = os.stat(path)
        time.sleep(seconds)
        after = os.stat(path)
    except OSError:
        return False
    return (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def _in_use(paths: set[str]) -> set[str]:
    """Those that a live process has open, or that a live git program may have made."""
    used: set[str] = set()
    for process in psutil.process_iter():
        try:
            used.update(entry.path for entry in process.open_files() if entry.path in paths)
            if process.name().startswith("git") and not process.name().startswith("gitresearch"):
                used.update(path for path in paths if process.create_time() <= os.stat(path).st_mtime)
        except (psutil.Error, OSError):
            continue
    return used
