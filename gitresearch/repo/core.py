"""What every verb of the store stands on: the open repository, its objects, and the patient writing of a ref."""

import os
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Self, TypeVar

import pygit2

from gitresearch.errors import FormatError, GitResearchError
from gitresearch.repo import identity
from gitresearch.repo.door import discover, errors
from gitresearch.repo.locks import Held, KernelLock, clear_old_locks
from gitresearch.repo.objects import Batch
from gitresearch.repo.refs import Locked, Refs
from gitresearch.repo.stream import Source
from gitresearch.repo.trees import Trees
from gitresearch.text import printable
from gitresearch.trial import NAME

T = TypeVar("T")
MAX_KNOWN = 4096
PATIENCE_SECONDS = 3.0  # how long a live git may hold a ref's lock file before we say so


class Core:
    """An open repository."""

    def __init__(self, git_dir: str, *, durable: bool = True, cache: bool = True) -> None:
        self._handle = pygit2.Repository(git_dir)
        self.git_dir = Path(self._handle.path)
        self.common_dir = _common_dir(self.git_dir)
        self.workdir = Path(self._handle.workdir) if self._handle.workdir else None
        self._durable = durable
        self._caches = cache
        self._odb = self._handle.odb
        self._trees = Trees(self._odb)
        self._refs = Refs(self._handle, self.common_dir, durable=durable)
        self._source = Source(self._odb, self.git_dir, self.common_dir / "objects")
        self._lock = KernelLock(self.common_dir, "write")
        self._tree_of: dict[str, str] = {}

    @cached_property
    def _committer(self) -> str:
        return identity.committer(self._handle)

    @classmethod
    def open(cls, path: Path, *, durable: bool = True, cache: bool = True) -> Self:
        """The repository that `path` lies in, looked for upwards as `git -C` does. `durable` makes every write survive
        a power cut once it returns (fsync); without `cache` everything is read from git itself."""
        with errors("open the repository"):
            return cls(discover(path), durable=durable, cache=cache)

    def also_read(self, *folders: Path) -> None:
        """Read objects from further object directories too, such as those of a push that a hook is asked about. Nothing
        is written there."""
        with errors("open the objects of a push"):
            for folder in folders:
                self._odb.add_disk_alternate(str(folder.absolute()))

    def _batch(self) -> Batch:
        return Batch(self.common_dir / "objects", durable=self._durable)

    def _tree(self, commit: str) -> str:
        """A commit's tree. GitResearchError where there is no such commit."""
        tree = self._tree_of.get(commit)
        if tree is None:
            try:
                kind, raw = self._odb.read(commit)
            except (KeyError, ValueError):
                hint = "git fetch --unshallow" if (self.common_dir / "shallow").exists() else "git fetch --all"
                raise GitResearchError(f"the repository lacks the commit {printable(commit[:80])!r}", hint) from None
            if kind != pygit2.enums.ObjectType.COMMIT:
                raise FormatError(f"{commit} is no commit")
            tree = str(raw[5:45].decode("ascii"))
            self._remember(commit, tree)
        return tree

    def _remember(self, commit: str, tree: str) -> None:
        if len(self._tree_of) >= MAX_KNOWN:
            self._tree_of.clear()
        self._tree_of[commit] = tree

    def _create(self, name: str, oid: str) -> None:
        """Make a ref that must not exist with another value: Moved where it does."""
        if self._refs.get(name) == oid:
            return
        with self._lock() as held:
            self._set(held, name, oid, None)

    def _set(self, held: Held, name: str, oid: str, old: str | None) -> None:
        held.intend(f"{self.common_dir}/{name}.lock")
        self._patiently(lambda: self._refs.set(name, oid, old))

    def _patiently(self, write: Callable[[], T]) -> T:
        """Write again while another program holds the lock file, and clear it away where that program is dead."""
        deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.002
        while True:
            try:
                return write()
            except Locked:
                if time.monotonic() > deadline and not clear_old_locks(self.common_dir):
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 0.1)


def checked_name(study: str) -> str:
    """A study's name as part of a ref. FormatError where it is none."""
    if not NAME.fullmatch(study):
        raise FormatError(f"the study name {study[:100]!r} must be lower-case letters, digits, '-' and '_'")
    return study


def _common_dir(git_dir: Path) -> Path:
    """The directory that holds refs and objects; a linked worktree names it in a file."""
    try:
        return Path(os.path.normpath(git_dir / (git_dir / "commondir").read_text(encoding="utf-8").strip()))
    except FileNotFoundError:
        return git_dir
