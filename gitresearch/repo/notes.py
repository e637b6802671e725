"""Notes trees: a note's blob under its commit's oid, spread over two-digit directories as git reads them.

libgit2 keeps one flat tree and rewrites it for each note: at 10,000 notes 13.8 ms each (libgit2#5793). Here a tree
holds at most SPREAD notes itself; further ones go to subtrees by their next two digits. git reads any such mixture, and
what is there already never moves, so a write costs two or three small trees at any size.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from gitresearch.repo.objects import TREE_MODE, Batch, Entry, print_tree
from gitresearch.repo.trees import Trees

SPREAD = 64
_HEX = re.compile(rb"[0-9a-f]+")


def read_notes(trees: Trees, tree: str | bytes, prefix: bytes = b"") -> Iterator[tuple[str, str]]:
    """Every note of a notes tree, in any layout: the oid it is about, and its blob's oid."""
    for name, entry in trees.entries(tree).items():
        if _HEX.fullmatch(name):  # git keeps other files in a notes tree too
            yield from _below(trees, prefix + name, entry)


def diff_notes(trees: Trees, old: str | bytes | None, new: str | bytes, prefix: bytes = b"") -> dict[str, str | None]:
    """The notes that differ between two notes trees, with the new blob or None; equal subtrees are not opened."""
    before = trees.entries(old) if old else {}
    after = trees.entries(new)
    found: dict[str, str | None] = {}
    for name in before.keys() | after.keys():
        entry, earlier = after.get(name), before.get(name)
        if entry == earlier or not _HEX.fullmatch(name):
            continue
        path = prefix + name
        if _is_folder(entry) and _is_folder(earlier):
            found = _merged(found, diff_notes(trees, earlier.oid, entry.oid, path))
        else:
            found = _merged(found, {oid: None for oid, _ in _below(trees, path, earlier)})
            found = _merged(found, dict(_below(trees, path, entry)))
    return found


def _merged(found: dict[str, str | None], more: Mapping[str, str | None]) -> dict[str, str | None]:
    """A note that left one place of the tree and is found in another has moved, not gone."""
    for oid, blob in more.items():
        if blob is not None or oid not in found:
            found[oid] = blob
    return found


def _below(trees: Trees, path: bytes, entry: Entry | None) -> Iterator[tuple[str, str]]:
    if entry is None:
        return
    if entry.is_tree:
        if len(path) % 2 == 0 and len(path) < 40:
            yield from read_notes(trees, entry.oid, path)
    elif len(path) == 40:
        yield path.decode(), entry.oid.hex()


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


def put_note(trees: Trees, batch: Batch, tree: str | bytes | None, rest: bytes, blob: bytes) -> str:
    """The notes tree with a note added or replaced. `rest` are the digits of its oid below this tree."""
    entries = trees.entries(tree) if tree else {}
    below = entries.get(rest[:2])
    if rest in entries:
        entries[rest] = Entry(b"100644", blob)
    elif (below and below.is_tree) or (len(entries) >= SPREAD and len(rest) > 2):
        deeper = put_note(trees, batch, below.oid if below else None, rest[2:], blob)
        entries[rest[:2]] = Entry(TREE_MODE, bytes.fromhex(deeper))
    else:
        entries[rest] = Entry(b"100644", blob)
    return batch.write("tree", print_tree(entries))
