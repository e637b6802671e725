"""What a power cut can leave of a session's writes, by two models of a file system.

A file's bytes are safe once it was synced, a name once its folder was. **Loose**: what was not synced is lost, a
file's bytes in whole or from the middle on, a folder's last changes from any one on. **Ordered** (ext4's default):
names survive in order, and the bytes of files that were not synced do not, which leaves empty files.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crashes.nursery import Call, Said

State = dict[bytes, bytes | None]  # by path from the world's top: a file's bytes, or None for a folder


@dataclass
class Content:
    """A file's bytes, now and as of its last sync; None where there was none."""

    data: bytes = b""
    synced: bytes | None = None


@dataclass
class Change:
    """A change of a folder's names; `safe` once the folder was synced after it."""

    folder: bytes
    name: str
    paths: tuple[bytes, ...]
    content: Content | None = None
    safe: bool = False


@dataclass
class Disk:
    """A world while a session writes: what programs see, and what of it is safe."""

    before: dict[bytes, Content | None]
    changes: list[Change] = field(default_factory=list)
    files: dict[bytes, Content] = field(default_factory=dict)
    folders: set[bytes] = field(default_factory=set)

    @classmethod
    def of(cls, top: Path) -> "Disk":
        found = {path: None if data is None else Content(data, data) for path, data in read(top).items()}
        files = {path: content for path, content in found.items() if content}
        return cls(found, files=files, folders={b"", *(found.keys() - files.keys())})

    def take(self, call: Call, paths: tuple[bytes, ...]) -> None:
        """One system call, with its paths from the world's top."""
        path = paths[0]
        if call.name == "openat" and path not in self.files:
            self.files[path] = Content()
            self._change(call.name, paths, self.files[path])
        elif call.name == "write":
            self.files[path].data += call.strings[1]
        elif call.name == "pwrite64":
            old, at = self.files[path].data.ljust(call.position, b"\0"), call.position
            self.files[path].data = old[:at] + call.strings[1] + old[at + len(call.strings[1]) :]
        elif call.name == "fsync":
            self._sync(path)
        elif call.name in ("rename", "link"):
            self.files[paths[1]] = self.files[path] if call.name == "link" else self.files.pop(path)
            self._change(call.name, paths, self.files[paths[1]])
        elif call.name == "unlink":
            del self.files[path]
            self._change(call.name, paths)
        elif call.name == "mkdir":
            self.folders.add(path)
            self._change(call.name, paths)
        elif call.name not in ("openat", "flock", "close"):
            raise AssertionError(f"no model for {call.name}")

    def _change(self, name: str, paths: tuple[bytes, ...], content: Content | None = None) -> None:
        self.changes.append(Change(os.path.dirname(paths[-1]), name, paths, content))

    def _sync(self, path: bytes) -> None:
        if path in self.files:
            self.files[path].synced = self.files[path].data
        for change in self.changes:
            change.safe = change.safe or (path in self.folders and change.folder == path)

    def states(self) -> Iterator[State]:
        """Everything that a power cut may leave at this moment."""
        unsafe = [at for at, change in enumerate(self.changes) if not change.safe]
        folders = {self.changes[at].folder for at in unsafe}
        yield self._left(set(), "lost")  # ordered
        yield self._left(set(), "cut")
        yield self._left(set(unsafe), "lost")
        for folder in folders:
            yield self._left({at for at in unsafe if self.changes[at].folder == folder}, "whole")
        for number in range(len(unsafe)):
            yield self._left(set(unsafe[number:]), "whole")

    def _left(self, lost: set[int], data: str) -> State:
        """The names without the lost changes, and the bytes of what was not synced: whole, cut or lost."""
        names = dict(self.before)
        for at, change in enumerate(self.changes):
            if at not in lost and (change.folder in names or not change.folder):
                _apply(names, change)
        return {path: None if content is None else _bytes(content, data) for path, content in names.items()}


def _apply(names: dict[bytes, Content | None], change: Change) -> None:
    old = change.paths[0]
    if change.name == "mkdir":
        names[old] = None
    elif change.name == "openat":
        names[old] = change.content
    elif old in names:
        content = names[old]
        if change.name != "link":
            del names[old]
        if change.name != "unlink":
            names[change.paths[1]] = content


def _bytes(content: Content, data: str) -> bytes:
    if content.data == content.synced or data == "whole":
        return content.data
    safe = content.synced or b""
    return safe if data == "lost" else content.data[: (len(safe) + len(content.data)) // 2]


def crashes_of(top: Path, before: Path, calls: Sequence[Call]) -> Iterator[tuple[State, Said]]:
    """Every state that a power cut may leave, once, with what had been promised by then."""
    disk, said, inside = Disk.of(before), Said(0), bytes(top) + b"/"
    known: set[bytes] = set()
    for call in calls:
        if call.path.startswith(b"pipe:"):
            said.hear(call.strings[1].decode())
            known.clear()  # the same state now has to hold more
        elif call.path.startswith(inside) and not call.failed and (call.writing or call.name != "openat"):
            paths = call.strings[:2] if call.name in ("rename", "link") else call.strings[:1]
            disk.take(call, tuple(path.removeprefix(inside) for path in paths))
        for state in disk.states():
            mark = hashlib.sha1(repr(sorted(state.items())).encode()).digest()
            if mark not in known:
                known.add(mark)
                yield state, Said(0, list(said.trials), dict(said.outcomes))


def read(top: Path) -> State:
    """A world's files and folders."""
    return {os.fsencode(path.relative_to(top)): None if path.is_dir() else path.read_bytes() for path in top.rglob("*")}


def write(state: State, top: Path) -> Path:
    """A world as the disk has it after the cut, an hour later."""
    for path in sorted(path for path, data in state.items() if data is None):
        (top / os.fsdecode(path)).mkdir(parents=True, exist_ok=True)
    for path, data in state.items():
        if data is not None:
            (top / os.fsdecode(path)).write_bytes(data)
            (top / os.fsdecode(path)).chmod(0o600)  # as a key's must be
            os.utime(top / os.fsdecode(path), (time.time() - 3600,) * 2)
    return top
