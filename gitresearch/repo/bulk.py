"""Importing many trials at once: a pack and one rewriting of `packed-refs` a batch instead of eleven files a trial.

A batch is the unit of safety: its objects are on disk before its branches, its branches before its notes; what a
killed import leaves is whole batches, and running it again adds the rest.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import pygit2

from gitresearch.errors import FormatError
from gitresearch.repo.identity import specialist_author
from gitresearch.repo.notes import put_notes
from gitresearch.repo.objects import discard, print_commit, sync_folder, write_all
from gitresearch.repo.packfile import Overlay
from gitresearch.repo.refs import Locked, Moved
from gitresearch.repo.trees import Trees
from gitresearch.repo.values import NewTrial
from gitresearch.signing import Key
from gitresearch.trial import BranchName

BATCH = 10_000
_HEADER = b"# pack-refs with: peeled fully-peeled sorted \n"
_LINE = re.compile(rb"^([0-9a-f]{40}) (\S+)\n((?:\^[0-9a-f]{40}\n)?)", re.MULTILINE)


class Importer:
    """Builds the objects of new trials; remembers their oids and trees so that later ones can stand on them."""

    def __init__(self, odb: pygit2.Odb, committer: str) -> None:
        self.overlay = Overlay(odb)
        self.oids: list[str] = []
        self.branches: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self._trees = Trees(self.overlay)
        self._committer = committer
        self._tree_of: dict[str, str] = {}

    def add(self, item: NewTrial) -> None:
        """Gather one trial and its note."""
        parents = [parent if isinstance(parent, str) else self.oids[parent] for parent in item.parents]
        if not parents or len(set(parents)) != len(parents):
            raise FormatError("a trial stands on one parent, or on several that differ")
        tree = self._trees.edited(self.overlay, self._tree(parents), item.edits)
        author = f"{specialist_author(item.hypothesis.specialist)} {item.time} +0000"
        committer = f"{self._committer} {item.time} +0000"
        message = item.hypothesis.message()
        oid = self.overlay.write("commit", print_commit(tree, parents, author, committer, message))
        self._tree_of[oid] = tree
        self.oids.append(oid)
        self.branches[f"refs/heads/{BranchName.of(item.hypothesis, oid)}"] = oid
        if item.outcome is not None:
            self.notes[oid] = self.overlay.write("blob", item.outcome.note())

    def _tree(self, parents: Sequence[str]) -> str:
        """The first parent's tree, after a look that every parent is a commit."""
        for oid in parents:
            if oid not in self._tree_of:
                kind, raw = self.overlay.read(oid)
                if kind != pygit2.enums.ObjectType.COMMIT:
                    raise FormatError(f"{oid} is no commit")
                self._tree_of[oid] = raw[5:45].decode()
        return self._tree_of[parents[0]]

    def note_commit(self, tip: str | None, tree: str | None, who: str, key: Key) -> str | None:
        """A notes commit with the gathered notes on top of `tip`, None where there are none."""
        if not self.notes:
            return None
        notes = [(oid.encode(), bytes.fromhex(blob)) for oid, blob in self.notes.items()]
        root = put_notes(self._trees, self.overlay, tree, notes)
        message = f"outcomes of {len(notes)} imported trials\n"
        self.notes = {}
        return self.overlay.write("commit", print_commit(root, [tip] if tip else [], who, who, message, key))


def batches(items: Iterable[NewTrial], size: int = BATCH) -> Iterator[list[NewTrial]]:
    """The items in lists of at most `size`."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def add_packed_refs(common_dir: Path, new: Mapping[str, str], *, durable: bool) -> None:
    """Add refs to `packed-refs` under git's lock file. Moved where one exists with another value, Locked where another
    program is packing."""
    path, lock = f"{common_dir}/packed-refs", f"{common_dir}/packed-refs.lock"
    try:
        handle = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        raise Locked(lock) from None
    try:
        try:
            write_all(handle, _merged(path, new))
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(lock, path)
    except BaseException:
        discard(lock)
        raise
    if durable:
        sync_folder(str(common_dir))


def _merged(path: str, new: Mapping[str, str]) -> bytes:
    try:
        with open(path, "rb") as file:
            old = file.read()
    except FileNotFoundError:
        old = b""
    lines = {name: (oid, peeled) for oid, name, peeled in _LINE.findall(old)}
    for text, oid in new.items():
        name, value = text.encode(), oid.encode()
        if lines.setdefault(name, (value, b""))[0] != value:
            raise Moved(f"{text} holds {lines[name][0].decode()}, not nothing")
    return _HEADER + b"".join([b"%b %b\n%b" % (lines[name][0], name, lines[name][1]) for name in sorted(lines)])
