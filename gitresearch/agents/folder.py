"""A parent's files in a folder, and what somebody changed there read back as edits.

What lies in the folder afterwards is a stranger's: links are not followed, pipes and devices not opened, sizes and
numbers are bounded, and what tools drop beside their work is passed over.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from gitresearch.agents import Files
from gitresearch.answers import EditError
from gitresearch.edit import MAX_FILE
from gitresearch.surface import Edits, glob_match, safe_path
from gitresearch.text import one_line

MAX_ENTRIES, MAX_DEPTH, MAX_CHANGED = 20_000, 32, 100
# What agents and the tools they call leave behind. A parent's own file of such a name is compared all the same.
LEFTOVERS = (
    "**/__pycache__", "**/*.pyc", "**/.aider*", "**/.claude", "**/.codex", "**/.gemini", "**/.opencode",
    "**/.pytest_cache", "**/.mypy_cache", "**/.ruff_cache", "**/.git", "**/.gitresearch", ".tmp",
)  # fmt: skip


def write(files: Files, folder: Path) -> None:
    """Write the files below the folder. EditError for a path that would leave it."""
    for path, data in files.items():
        if not safe_path(path):
            raise EditError(f"{one_line(path, 100)!r} is no path that a trial may edit")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def changes(before: Files, folder: Path) -> Edits:
    """The files that differ from `before`: their new bytes, None for those that are gone. EditError where a file is too
    large, is no ordinary one, or is one of too many."""
    found: dict[str, bytes | None] = {}
    there: set[str] = set()
    for path, entry in _below(folder, "", 0):
        told = one_line(path, 100)
        if path not in before and any(glob_match(pattern, path) for pattern in LEFTOVERS):
            continue
        if not entry.is_file(follow_symlinks=False):
            raise EditError(f"{told!r} is no ordinary file")
        there.add(path)
        data = read(folder / path, max(MAX_FILE, len(before.get(path, b""))))
        if data is None:
            raise EditError(f"{told!r} is too large (a file of a trial has at most {MAX_FILE} bytes), or closed to us")
        if before.get(path) != data:
            found[path] = data
            if len(found) > MAX_CHANGED:
                raise EditError(f"more than {MAX_CHANGED} files are changed")
    return found | dict.fromkeys(before.keys() - there)


def _below(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every entry that is no folder, by path; folders that are leftovers are not entered."""
    if depth > MAX_DEPTH:
        raise EditError(f"folders deeper than {MAX_DEPTH}")
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number > MAX_ENTRIES:
                raise EditError(f"more than {MAX_ENTRIES} files in one folder")
            path = prefix + os.fsencode(entry.name).decode("utf-8", "replace")
            if not entry.is_dir(follow_symlinks=False):
                yield path, entry
            elif not any(glob_match(pattern, path) for pattern in LEFTOVERS):
                yield from _below(Path(entry.path), f"{path}/", depth + 1)


def read(path: Path, most: int) -> bytes | None:
    """A file's bytes, None where they are more than `most` or the name is no longer a plain file's."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        data = file.read(most + 1)
    return data if len(data) <= most else None
