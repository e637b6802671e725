"""TOML tables -> checked values: a file's table becomes a frozen dataclass, key by key.

Every mistake is one error that names file, line, key and the mend; an unknown key names the nearest known one. A class
says in `check` what its values must be, by `require` and `choice`.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import tomli

from gitresearch.errors import GitResearchError
from gitresearch.text import printable

T = TypeVar("T")


class TableError(GitResearchError):
    """A mistake in a file of tables."""


class Wrong(Exception):
    """A mistake at one key of the table being read."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(what)
        self.key, self.what = key, what


def read(cls: type[T], text: str, where: str) -> T:
    """The value of a class in a file's text. TableError names file, line, key and the mend."""
    hint = f"edit {where}"
    try:
        doc = tomli.loads(text)
    except (tomli.TOMLDecodeError, RecursionError) as error:
        raise TableError(f"{where} is no TOML: {error}", hint) from None
    try:
        made: T = _build(cls, doc, ())
    except _Located as error:
        line = _line(text, error.path)
        at = f"{where}:{line}" if line else where
        raise TableError(f"{at}: {error}", hint) from None
    return made


class _Located(Exception):
    def __init__(self, path: tuple[str, ...], what: str) -> None:
        super().__init__(printable(f"{'.'.join(p for p in path if not p.isdigit())[:200]} {what}"))
        self.path = path


def _build(cls: type, table: Any, path: tuple[str, ...]) -> Any:
    """A dataclass from a TOML table, checked key by key."""
    if not isinstance(table, dict):
        raise _Located(path, "must be a table")
    known = {item.name: item for item in fields(cls)}
    hints = get_type_hints(cls)
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.4)
            meant = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known)}"
            raise _Located((*path, key), f"is an unknown key{meant}")
    values = {}
    for name, item in known.items():
        if name in table:
            values[name] = _convert(hints[name], table[name], (*path, name))
        elif item.default is MISSING and item.default_factory is MISSING:
            raise _Located((*path, name), "is missing")
    built = cls(**values)
    try:
        built.check()
    except Wrong as wrong:
        raise _Located((*path, wrong.key), wrong.what) from None
    return built


def _convert(kind: Any, value: Any, path: tuple[str, ...]) -> Any:
    if get_origin(kind) is UnionType:
        kind = next(option for option in get_args(kind) if option is not type(None))
    if hasattr(kind, "__dataclass_fields__"):
        return _build(kind, value, path)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _Located(path, "must be a list")
        return tuple(_convert(get_args(kind)[0], entry, (*path, str(i))) for i, entry in enumerate(value))
    if get_origin(kind) is Mapping:
        if not isinstance(value, dict):
            raise _Located(path, "must be a table")
        return dict(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        words = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
        raise _Located(path, f"must be {words[kind]}, not {value!r}")
    if kind is float and not abs(value) < float("inf"):
        raise _Located(path, "must be finite")
    return value


def _line(text: str, path: tuple[str, ...]) -> int:
    """The line (from 1) of a dotted key in the file; the table's line, or 0, where the key itself is not there.

    TOML parsers keep no positions; this reads headers and keys the way people write them, good enough to point at.
    """
    header: tuple[str, ...] = ()
    counts: dict[str, int] = {}
    best = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if match := re.match(r"(\[\[?)\s*([\w.\"-]+)\s*\]", line):
            header = tuple(part.strip('"') for part in match[2].split("."))
            if match[1] == "[[":
                counts[match[2]] = counts.get(match[2], -1) + 1
                header = (*header, str(counts[match[2]]))
            if header == path[: len(header)]:
                best = number
            if header[: len(path)] == path:
                return number
        elif match := re.match(r"([\w\"-]+(?:\.[\w\"-]+)*)\s*=", line):
            key = (*header, *(part.strip('"') for part in match[1].split(".")))
            if key == path[: len(key)]:
                return number
    return best


def require(key: str, holds: bool, what: str) -> None:
    if not holds:
        raise Wrong(key, what)


def choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        near = difflib.get_close_matches(value, choices, 1, 0.4)
        meant = f", did you mean {near[0]!r}?" if near else ""
        raise Wrong(key, f"must be one of {', '.join(choices)}, not {value!r}{meant}")
