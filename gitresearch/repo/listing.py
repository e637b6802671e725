"""Which trials and which notes there are, read from git's ref files: `packed-refs`, and a file for each loose ref.

libgit2 lists loose refs by opening every file; here a known name is not opened again, because a trial's branch never
moves: its name ends in its own commit. A fingerprint of the folders tells when there is nothing to list at all.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gitresearch.repo.refs import OID, OUTCOMES, TRIALS

Fingerprint = tuple[tuple[str, int, int], ...]
# Folder times move in steps of the kernel's tick (4 to 10 ms): a folder changed just now may change unseen.
_RACY_NS = 50_000_000
_TRIAL = re.compile(rb"^([0-9a-f]{40}) refs/heads/trial/(.+)$", re.MULTILINE)
_OUTCOMES = re.compile(rb"^([0-9a-f]{40}) refs/notes/gitresearch/outcomes/(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Listing:
    """Refs at one moment: `trials` by the name after `refs/heads/trial/`, `notes` by evaluator."""

    fingerprint: Fingerprint = ()
    trials: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def list_refs(common_dir: Path, known: Listing) -> Listing:
    """What there is now; `known` is an earlier listing, whose values are taken over where they can't have changed."""
    fingerprint = _fingerprint(common_dir)
    same = fingerprint == known.fingerprint
    packed = b"" if same else _packed(common_dir)
    trials = known.trials if same else _names(common_dir, TRIALS, _TRIAL, packed, known.trials)
    return Listing(fingerprint, trials, _notes(common_dir, known, packed, same=same))


def _notes(common_dir: Path, known: Listing, packed: bytes, *, same: bool) -> dict[str, str]:
    if not same:
        return _names(common_dir, OUTCOMES, _OUTCOMES, packed, {})
    # packed-refs is as it was, so only loose files can differ: a few, one for each evaluator
    loose = _names(common_dir, OUTCOMES, _OUTCOMES, b"", {})
    return {**known.notes, **loose}


def _names(
    common_dir: Path, prefix: str, pattern: re.Pattern[bytes], packed: bytes, known: Mapping[str, str]
) -> dict[str, str]:
    found = {os.fsdecode(name): oid.decode() for oid, name in pattern.findall(packed)}
    for name, path in _loose(f"{common_dir}/{prefix}", ""):
        # A loose ref counts over a packed one; a known name that is both is not read again.
        oid = known.get(name) or _read(path)
        if oid:
            found[name] = oid
    return found


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


def _packed(common_dir: Path) -> bytes:
    try:
        return (common_dir / "packed-refs").read_bytes()
    except FileNotFoundError:
        return b""


def _fingerprint(common_dir: Path) -> Fingerprint:
    trials = f"{common_dir}/{TRIALS}".rstrip("/")
    notes = f"{common_dir}/{OUTCOMES}".rstrip("/")
    paths = [f"{common_dir}/packed-refs", trials, notes]
    with contextlib.suppress(FileNotFoundError):
        paths += sorted(entry.path for entry in os.scandir(trials) if entry.is_dir())
    now = time.time_ns()
    marks = []
    for path in paths:
        try:
            stat = os.stat(path)
        except FileNotFoundError:
            marks.append((os.path.basename(path), 0, 0))
            continue
        racy = now - stat.st_mtime_ns < _RACY_NS
        marks.append((os.path.basename(path), now if racy else stat.st_mtime_ns, stat.st_ino + (stat.st_size << 40)))
    return tuple(marks)
