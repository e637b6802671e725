"""Notes trees: a note's blob under its commit's oid, spread over two-digit directories as git reads them.

libgit2 keeps one flat tree and rewrites it for each note: at 10,000 notes 13.8 ms each (libgit2#5793). Here a tree
holds so many notes itself; further ones go to subtrees by their next two digits. git reads any such mixture, and
what is there already never moves, so a write costs two or three small trees at any size.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeGuard

from gitresearch.errors import FormatError
from gitresearch.repo.objects import TREE_MODE, Entry, Sink, print_tree, rows, with_entry
from gitresearch.repo.trees import Trees

# A root of 64 notes is read and written at once; below it, trees of 26 KB cost a write 60 µs and spare a reader of
# 100,000 notes 40,000 trees of one or two.
SPREAD = {40: 64}
SPREAD_BELOW = 512
NOTE_BYTES = 65
_HEX = re.compile(rb"[0-9a-f]+")


def read_notes(trees: Trees, tree: str | bytes, prefix: bytes = b"") -> dict[str, str]:
    """Every note of a notes tree, in any layout: the oid it is about, and its blob's oid. FormatError where a folder
    stands twice: notes differ, and so do folders of them, but twenty small objects can name 10 ** 46 notes."""
    found: dict[str, str] = {}
    _collect(trees, tree, prefix, found, set())
    return found


def _collect(
    trees: Trees, tree: str | bytes, prefix: bytes, found: dict[str, str], seen: set[tuple[object, ...]]
) -> None:
    _once(seen, tree)
    left = 40 - len(prefix)
    for mode, name, oid in rows(trees.raw(tree)):
        if len(name) == left and mode != TREE_MODE:
            found[(prefix + name).decode("latin-1")] = oid.hex()
        elif len(name) == 2 and left > 2 and mode == TREE_MODE and _HEX.fullmatch(name):
            _collect(trees, oid, prefix + name, found, seen)  # git keeps other files in a notes tree too


def _once(seen: set[tuple[object, ...]], *trees: object) -> None:
    if trees in seen:
        raise FormatError("a notes tree holds one folder twice")
    seen.add(trees)


def diff_notes(trees: Trees, old: str | bytes | None, new: str | bytes) -> dict[str, str | None]:
    """The notes that differ between two notes trees, with the new blob or None; equal subtrees are not opened."""
    return _diff(trees, old, new, b"", set())


def _diff(
    trees: Trees, old: str | bytes | None, new: str | bytes, prefix: bytes, seen: set[tuple[object, ...]]
) -> dict[str, str | None]:
    if old == new:
        return {}  # a run's start: half of all notes commits
    _once(seen, old, new)
    left, right = _rows(trees.raw(old)) if old else frozenset(), _rows(trees.raw(new))
    before = {name: Entry(mode, oid) for mode, name, oid in left - right}
    after = {name: Entry(mode, oid) for mode, name, oid in right - left}
    found: dict[str, str | None] = {}
    for name in before.keys() | after.keys():
        entry, earlier = after.get(name), before.get(name)
        if not _HEX.fullmatch(name):
            continue
        path = prefix + name
        if _is_folder(entry) and _is_folder(earlier):
            found = _merged(found, _diff(trees, earlier.oid, entry.oid, path, seen))
        else:
            found = _merged(found, dict.fromkeys(_below(trees, path, earlier)))
            found = _merged(found, _below(trees, path, entry))
    return found


@lru_cache(maxsize=300)  # who walks a chain of notes meets each tree twice; a full one has 256 below it
def _rows(raw: bytes) -> frozenset[tuple[bytes, bytes, bytes]]:
    return frozenset(rows(raw))


def _merged(found: dict[str, str | None], more: Mapping[str, str | None]) -> dict[str, str | None]:
    """A note that left one place of the tree and is found in another has moved, not gone."""
    for oid, blob in more.items():
        if blob is not None or oid not in found:
            found[oid] = blob
    return found


def _below(trees: Trees, path: bytes, entry: Entry | None) -> dict[str, str]:
    if entry is None or len(path) > 40:
        return {}
    if entry.is_tree:
        return read_notes(trees, entry.oid, path) if len(path) % 2 == 0 else {}
    return {path.decode("latin-1"): entry.oid.hex()} if len(path) == 40 else {}


def _spread(rest: bytes) -> int:
    """How many notes a tree holds before further ones go below; `rest` is what their names have left here."""
    return SPREAD.get(len(rest), SPREAD_BELOW)


def _is_folder(entry: Entry | None) -> TypeGuard[Entry]:
    return entry is not None and entry.is_tree


def find_note(trees: Trees, tree: str, oid: str) -> str | None:
    """The blob of the note about an oid, in any layout."""
    level: str | bytes = tree
    rest = oid.encode()
    while rest:
        entries = trees.entries(level)
        if rest in entries:
            return entries[rest].oid.hex()
        below = entries.get(rest[:2])
        if below is None or not below.is_tree:
            return None
        level, rest = below.oid, rest[2:]
    return None


def places(trees: Trees, tree: str, oid: str) -> list[str]:
    """The blobs of all notes about an oid that a tree holds where readers look: more than one, and each may find
    another."""
    found: list[str] = []
    levels, rest = {bytes.fromhex(tree)}, oid.encode()
    while levels and rest:
        here = [row for level in levels for row in rows(trees.raw(level))]
        found += [blob.hex() for mode, name, blob in here if name == rest and mode != TREE_MODE]
        levels = {below for mode, name, below in here if name == rest[:2] and mode == TREE_MODE}
        rest = rest[2:]
    return found


def put_note(trees: Trees, sink: Sink, tree: str | bytes | None, rest: bytes, blob: bytes) -> str:
    """The notes tree with one note added or replaced; `rest` are the digits of its oid below this tree. The raw bytes
    are spliced: parsing and printing two such trees takes longer than writing them."""
    raw = trees.raw(tree) if tree else b""
    folder = b"40000 %b\0" % rest[:2]
    at = raw.find(folder)
    if len(rest) > 2 and b" %b\0" % rest not in raw and (at >= 0 or len(raw) >= _spread(rest) * NOTE_BYTES):
        start = at + len(folder)
        deeper = put_note(trees, sink, raw[start : start + 20] if at >= 0 else None, rest[2:], blob)
        new = with_entry(raw, rest[:2], Entry(TREE_MODE, bytes.fromhex(deeper)))
    else:
        new = with_entry(raw, rest, Entry(b"100644", blob))
    oid = sink.write("tree", new)
    trees.remember(oid, new)
    return oid


def put_notes(trees: Trees, sink: Sink, tree: str | bytes | None, notes: Sequence[tuple[bytes, bytes]]) -> str:
    """The notes tree with many notes added or replaced: each the digits of its oid below this tree, and its blob."""
    entries = trees.entries(tree) if tree else {}
    below: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for rest, blob in notes:
        deeper = entries.get(rest[:2])
        full = len(entries) >= _spread(rest) and len(rest) > 2
        if rest not in entries and (full or (deeper is not None and deeper.is_tree)):
            below.setdefault(rest[:2], []).append((rest[2:], blob))
        else:
            entries[rest] = Entry(b"100644", blob)
    for digits, some in below.items():
        old = entries.get(digits)
        oid = put_notes(trees, sink, old.oid if old else None, some)
        entries[digits] = Entry(TREE_MODE, bytes.fromhex(oid))
    return sink.write("tree", print_tree(entries))
