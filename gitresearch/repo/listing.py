"""Which trials and which notes there are, read from git's ref files: `packed-refs`, and a file for each loose ref.

libgit2 lists loose refs by opening every file; here a known name is not opened again, because a trial's branch never
moves: its name ends in its own commit. A fingerprint of the folders tells when there is nothing to list at all.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from gitresearch.repo.refs import OID, OUTCOMES, TRIALS

Mark = tuple[str, int, int]  # a path's last part, and what changes with its content
# Folder times move in steps of the kernel's tick (4 to 10 ms): a folder changed just now may change unseen.
_RACY_NS = 50_000_000
_TRIAL = re.compile(r"^([0-9a-f]{40}) refs/heads/trial/(.+)$", re.MULTILINE)
_OUTCOMES = re.compile(r"^([0-9a-f]{40}) refs/notes/gitresearch/outcomes/(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Listing:
    """Refs at one moment. Trial branches by the name after `refs/heads/trial/`, `packed` and `loose` (which count over
    packed ones); `notes` by evaluator. `marks` tell whether anything can have changed since; the first is of
    `packed-refs`."""

    marks: tuple[Mark, ...] = ()
    packed: Mapping[str, str] = field(default_factory=dict)
    loose: Mapping[str, str] = field(default_factory=dict)
    packed_notes: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """The commit a trial branch holds."""
        return self.loose.get(name) or self.packed.get(name)

    def names(self) -> set[str]:
        """Every trial branch."""
        return {*self.packed, *self.loose}


def list_refs(common_dir: Path, known: Listing) -> Listing:
    """What there is now; `known` is an earlier listing, whose parts are taken over where they can't have changed."""
    marks = _marks(common_dir)
    if marks == known.marks:
        # Only the evaluators' few refs are read again: a ref that is overwritten leaves no mark on its folder.
        return replace(known, notes={**known.notes, **dict(_read_loose(common_dir, OUTCOMES, {}))})
    # Loose refs first: a packer writes `packed-refs` and then deletes them, so whatever is missed here is in there.
    loose = dict(_read_loose(common_dir, TRIALS, known))
    notes = dict(_read_loose(common_dir, OUTCOMES, {}))
    if known.marks and known.marks[0] == marks[0] == _mark(f"{common_dir}/packed-refs", 0):
        packed, packed_notes = known.packed, known.packed_notes
    else:
        text = _packed_refs(common_dir)
        packed, packed_notes = _find(_TRIAL, text), _find(_OUTCOMES, text)
    return Listing(marks, packed, loose, packed_notes, {**packed_notes, **notes})


def changed_names(known: Listing, now: Listing) -> tuple[list[str], list[str]]:
    """The trial branches that are new or hold another commit, and those that no longer hold what they held."""
    if not known.marks:
        return sorted(now.names()), []
    names = {*known.loose, *now.loose}
    if now.packed is not known.packed:
        names |= {*known.packed, *now.packed}
    new, gone = [], []
    for name in names:
        before, after = known.get(name), now.get(name)
        if before != after:
            if after:
                new.append(name)
            if before:
                gone.append(name)
    return sorted(new), gone


def _find(pattern: re.Pattern[str], text: str) -> dict[str, str]:
    return {name: oid for oid, name in pattern.findall(text)}


class _Known(Protocol):
    def get(self, name: str) -> str | None: ...


def _read_loose(common_dir: Path, prefix: str, known: _Known) -> Iterator[tuple[str, str]]:
    for name, path in _loose(f"{common_dir}/{prefix}", ""):
        oid = known.get(name) or _read(path)
        if oid:
            yield name, oid


def _loose(folder: str, prefix: str) -> Iterator[tuple[str, str]]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _loose(entry.path, f"{prefix}{entry.name}/")
        elif not entry.name.endswith(".lock"):
            yield prefix + entry.name, entry.path


def _read(path: str) -> str:
    """A loose ref's oid; empty where it is gone, empty (a power cut), or symbolic."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return ""
    try:
        text = os.read(handle, 64).decode("ascii", "replace").strip()
    finally:
        os.close(handle)
    return text if OID.fullmatch(text) else ""


def _packed_refs(common_dir: Path) -> str:
    try:
        return os.fsdecode((common_dir / "packed-refs").read_bytes())
    except FileNotFoundError:
        return ""


def _marks(common_dir: Path) -> tuple[Mark, ...]:
    trials = f"{common_dir}/{TRIALS}".rstrip("/")
    paths = [f"{common_dir}/packed-refs", f"{common_dir}/{OUTCOMES}".rstrip("/"), trials]
    with contextlib.suppress(FileNotFoundError):
        paths += sorted(entry.path for entry in os.scandir(trials) if entry.is_dir())
    now = time.time_ns()
    return tuple(_mark(path, now) for path in paths)


def _mark(path: str, now: int) -> Mark:
    name = os.path.basename(path)
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return name, 0, 0
    if name == "packed-refs":  # always renamed into place, so its inode tells
        return name, stat.st_mtime_ns, stat.st_ino + (stat.st_size << 40) % (1 << 62)
    racy = now - stat.st_mtime_ns < _RACY_NS
    return name, now if racy else stat.st_mtime_ns, stat.st_ino
