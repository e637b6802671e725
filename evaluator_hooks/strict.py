"""Reading what a trial wrote: copy these functions into your hook (a hook is one program and imports nothing of ours).

A trial may leave a link to your labels, a pipe that nobody writes to, a hole of a terabyte, a file that is somebody
else's too, and numbers that win every comparison. So a name is opened once, without following it or waiting for it, and
what was opened is asked what it is; JSON has one reading and finite numbers; a list has the length that was agreed on.
All else is Invalid, whose message belongs in the reply `{"invalid": message}`.
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from typing import Any

MAX_FILES = 16
MAX_BYTES = 64 << 20
MAX_JSON = 1 << 20


class Invalid(Exception):
    """The trial left what no honest trial leaves."""


@contextlib.contextmanager
def artefact(path: str) -> Iterator[int]:
    """A handle on the artefact's folder, so that what its names lead to can't be moved meanwhile."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Invalid(f"there is no artefact: {error.strerror}") from None
    try:
        yield folder
    finally:
        os.close(folder)


@contextlib.contextmanager
def artefact_file(folder: int, name: str) -> Iterator[int]:
    """A handle on one ordinary file of the folder."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise Invalid(f"the artefact's {name[:80]!a} is no ordinary file: {error.strerror}") from None
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            raise Invalid(f"the artefact's {name[:80]!a} is no ordinary file of its own")
        if facts.st_size > MAX_BYTES:
            raise Invalid(f"the artefact's {name[:80]!a} is larger than {MAX_BYTES} bytes")
        yield handle
    finally:
        os.close(handle)


def artefact_sizes(folder: int) -> dict[str, int]:
    """Bytes of each file as its name promises them: a hole counts too."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry, _ in zip(entries, range(MAX_FILES + 1), strict=False)]
    if not 1 <= len(names) <= MAX_FILES:
        raise Invalid(f"an artefact is 1 to {MAX_FILES} files in one folder")
    sizes = {}
    for name in sorted(names):
        with artefact_file(folder, name) as handle:
            sizes[name] = os.fstat(handle).st_size
    return sizes


def strict_json(data: bytes, what: str) -> Any:
    """JSON with unique keys, finite numbers and whole numbers of at most 63 bits."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def finite(word: str) -> float:
        value = float(word)
        if not abs(value) < float("inf"):
            raise ValueError(f"{word[:20]} is not finite")
        return value

    def whole(word: str) -> int:
        if len(word) > 20 or not abs(int(word)) < 1 << 63:
            raise ValueError(f"{word[:20]} has more than 63 bits")
        return int(word)

    try:
        if len(data) > MAX_JSON:
            raise ValueError(f"larger than {MAX_JSON} bytes")
        text = data.decode("utf-8")
        return json.loads(text, object_pairs_hook=unique, parse_float=finite, parse_constant=finite, parse_int=whole)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{what} can't be read: {str(error)[:120]}") from None


def numbers(value: Any, count: int, low: float, high: float, what: str) -> list[float]:
    """A list of so many numbers within bounds; True is no number."""
    if not isinstance(value, list) or len(value) != count:
        raise Invalid(f"{what} must be {count} numbers")
    if any(isinstance(one, bool) or not isinstance(one, (int, float)) or not low <= one <= high for one in value):
        raise Invalid(f"{what} holds something else than numbers from {low:g} to {high:g}")
    return [float(one) for one in value]
