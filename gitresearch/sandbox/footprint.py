"""What a program's processes are and take up, looked at from outside: the tree of them, their memory, their files."""

import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

BLOCK, DEEPEST = 4096, 200


def tree(top: psutil.Process, most: int) -> set[psutil.Process]:
    """A process and all below it, or the first of them where they are more than `most`.

    Asked of the kernel process by process where it can tell: psutil reads every process of the machine for this, 4 ms
    of them where there are a hundred and 40 where there are a thousand.
    """
    if not os.path.exists(f"/proc/{top.pid}/task/{top.pid}/children"):
        return {top, *top.children(recursive=True)}
    found, waiting = {top}, [top.pid]
    while waiting and len(found) <= most:
        for child in _children(waiting.pop()):
            with suppress(psutil.Error):
                process = psutil.Process(child)
                if process not in found:
                    found.add(process)
                    waiting.append(child)
    return found


def _children(pid: int) -> list[int]:
    """The children of each thread of a process; none where it is gone."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as listed:
                found += map(int, listed.read().split())
    return found


def alive(process: psutil.Process) -> bool:
    """Whether a process runs still; one that has ended and waits to be reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def proportional(processes: Iterable[psutil.Process]) -> int:
    """Bytes of memory with shared pages counted once: exact, but too slow to ask for twenty times a second. Processes
    forked from a large one share its pages, and the quick sum counts those for each."""
    total = 0
    for process in processes:
        with suppress(psutil.Error, OSError):
            memory = process.memory_info().rss
            with suppress(psutil.Error, OSError):
                memory = getattr(process.memory_full_info(), "pss", memory)
            total += memory
    return total


def size(folder: Path) -> int:
    """Bytes under a folder, links not followed. A name alone counts for a block: those run out too. Folders nested so
    deep that programs end when they walk them, or closed so that nobody can look, are more than any limit."""
    total, waiting = 0, [(str(folder), 0)]
    while waiting:
        path, depth = waiting.pop()
        if depth > DEEPEST:
            return sys.maxsize
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        total += max(BLOCK, entry.stat(follow_symlinks=False).st_blocks * 512)
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append((entry.path, depth + 1))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return sys.maxsize
    return total


def nameless(pids: Iterable[int]) -> int:
    """Bytes of the files without a name that processes hold open, each file once: deleted ones, and those in memory
    alone (memfd), which count for no process's memory while they are not mapped."""
    sizes: dict[tuple[int, int], int] = {}
    for pid in pids:
        with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as handles:
            for handle in handles:
                with suppress(OSError):
                    facts = os.stat(handle.path)
                    if facts.st_nlink == 0 and stat.S_ISREG(facts.st_mode):
                        sizes[facts.st_dev, facts.st_ino] = facts.st_blocks * 512
    return sum(sizes.values())
