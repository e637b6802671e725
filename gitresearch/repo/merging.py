"""Three-way merges of files, without a checkout, an index or an attribute: a function of three trees and nothing else.

libgit2 merges the lines of a file; which files differ is read from the trees here. Renames are not guessed: a guess
would let the same merge come out differently elsewhere, and an audit repeats it. Nothing is written.
"""

import pygit2
from pygit2.enums import FileMode

from gitresearch.errors import GitResearchError
from gitresearch.merge import FIRST, SECOND, Merge
from gitresearch.repo.trees import EXECUTABLE, PLAIN, Trees
from gitresearch.text import printable

_PLAIN = frozenset({PLAIN, EXECUTABLE, 0o100664})
_Side = tuple[str, int] | None  # a file's blob and mode


class CannotMerge(GitResearchError):
    """Two sides that no merge of lines brings together."""


def merged(handle: pygit2.Repository, files: Trees, base: tuple[str, str], sides: tuple[str, str], root: str) -> Merge:
    """What the second side (a tree) changed under `root` since the base (a commit and its tree), put into the first.

    CannotMerge where a change is no change of lines: binary, a mode, a file that one side deleted.
    """
    old, first, second = (
        {path: (entry.oid.hex(), int(entry.mode, 8)) for path, entry in files.walk(tree, root)}
        for tree in (base[1], *sides)
    )
    edits: dict[str, bytes | None] = {}
    conflicts: dict[str, bytes] = {}
    for path in sorted(old.keys() | first.keys() | second.keys()):
        before, mine, theirs = old.get(path), first.get(path), second.get(path)
        if theirs in (before, mine):
            continue
        _refuse_modes(path, before, mine, theirs)
        if mine == before:
            edits[path] = _bytes(handle, theirs)
            continue
        text, clean = _lines(handle, path, before, mine, theirs)
        if not clean:
            conflicts[path] = text
        elif text != _bytes(handle, mine):
            edits[path] = text
    return Merge(base[0], edits, conflicts)


def _refuse_modes(path: str, *sides: _Side) -> None:
    """A trial's files are plain, and an edit leaves a file's mode as it is: a merge can't do more."""
    modes = {side[1] for side in sides if side}
    new = sides[0] is None and sides[1] is None
    if not modes <= _PLAIN or len(modes) > 1 or (new and modes != {PLAIN}):
        raise CannotMerge(f"{printable(path)} is no plain file, or changed its mode: that can't be merged")


def _bytes(handle: pygit2.Repository, side: _Side) -> bytes | None:
    return bytes(handle.odb.read(side[0])[1]) if side else None


def _lines(handle: pygit2.Repository, path: str, before: _Side, mine: _Side, theirs: _Side) -> tuple[bytes, bool]:
    """A file's merged lines, and whether they are free of conflicts."""
    if mine is None or theirs is None:
        raise CannotMerge(f"{printable(path)} was changed on one side and deleted on the other: that can't be merged")
    for side in (before, mine, theirs):
        if not _is_text(_bytes(handle, side) or b""):
            raise CannotMerge(f"{printable(path)} is no text and changed on both sides: that can't be merged")
    try:
        found = handle.merge_file_from_index(_entry("base", before), _entry(FIRST, mine), _entry(SECOND, theirs))
    except RuntimeError:  # how pygit2 1.21 hands out a text of no bytes, which has no conflict
        return b"", True
    return found.contents.encode(), found.automergeable


def _entry(name: str, side: _Side) -> pygit2.IndexEntry | None:
    """A blob under a made-up path: libgit2 takes the path for the label behind the conflict marker."""
    return pygit2.IndexEntry(name, pygit2.Oid(hex=side[0]), FileMode.BLOB) if side else None


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False
