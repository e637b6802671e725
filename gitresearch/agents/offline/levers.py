"""A lever: one place in the source that can be set to another value, and the exact bytes that do it.

An edit replaces the lever's own bytes and no others, so comments and layout stay as they are. Reading goes the other
way without a parser: the text before a lever is its anchor, and walking the anchors in order through another version
of the file gives that version's values (0.1–0.3 ms a version; a syntax
tree takes 15 ms or more).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gitresearch.agents.offline import literals
from gitresearch.agents.offline.domain import Condition, Domain
from gitresearch.agents.offline.literals import Value

_LITERAL = re.compile(
    rb"""[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?|True|False|None|"[^"\\\n]*"|'[^'\\\n]*'"""
)


@dataclass(frozen=True)
class Splice:
    """Bytes start to stop of a file become text."""

    path: str
    start: int
    stop: int
    text: bytes


@dataclass(frozen=True)
class Lever:
    """One place to turn. `key` names it across versions of the file, `name` names it to people.

    A switch between pieces of code has `variants` (its splices by option) and `recognise`, which reads the option at
    an offset of another version and says where it ends; a literal has neither.
    """

    key: str
    name: str
    path: str
    line: int
    start: int
    stop: int
    text: str
    value: Value
    domain: Domain
    variants: Mapping[str, tuple[Splice, ...]] = field(default_factory=dict)
    recognise: Callable[[bytes, int], tuple[str, int] | None] | None = None
    conditions: tuple[Condition, ...] = ()

    def works(self, values: Mapping[str, Value]) -> bool:
        """Whether the lever does anything where the levers are set so, by the recipe's own word."""
        others = ((one, f"{self.path}::{one.name}") for one in self.conditions)
        return all(one.holds(values[key]) for one, key in others if key in values)

    @property
    def is_switch(self) -> bool:
        return bool(self.variants)

    def splices(self, value: Value) -> tuple[Splice, ...]:
        """The edits that set the lever."""
        if self.variants:
            return self.variants[str(value)]
        return (Splice(self.path, self.start, self.stop, literals.written(value, self.text).encode()),)

    def read(self, source: bytes, at: int) -> tuple[Value, int] | None:
        """The lever's value at an offset of another version of its file, and where it ends."""
        if self.recognise is not None:
            return self.recognise(source, at)
        match = _LITERAL.match(source, at)
        try:
            return (literals.read(match[0].decode()), match.end()) if match else None
        except (ValueError, SyntaxError):
            return None


def applied(files: Mapping[str, bytes], splices: Iterable[Splice]) -> dict[str, bytes]:
    """The files that splices change, with the changes made. Splices don't overlap."""
    out: dict[str, bytes] = {}
    for splice in sorted(set(splices), key=lambda s: (s.path, s.start, s.stop), reverse=True):
        before = out.get(splice.path, files[splice.path])
        out[splice.path] = before[: splice.start] + splice.text + before[splice.stop :]
    return out


class Reader:
    """Reads the values of one file's levers from any version of the file."""

    def __init__(self, source: bytes, levers: Sequence[Lever]) -> None:
        self._steps: list[tuple[Lever, bytes, bool]] = []
        end = 0
        for lever in sorted(levers, key=lambda lever: (lever.start, lever.stop)):
            line = source.rfind(b"\n", 0, lever.start) + 1
            follows = end > line
            anchor = source[end : lever.start] if follows else b"\n" + source[line : lever.start]
            self._steps.append((lever, anchor, follows))
            found = lever.read(source, lever.start)
            end = found[1] if found else lever.stop

    def values(self, source: bytes) -> dict[str, Value]:
        """By key; a lever that this version lacks is left out."""
        source = b"\n" + source
        out: dict[str, Value] = {}
        at, held = 0, False
        for lever, anchor, follows in self._steps:
            here = at if held and source.startswith(anchor, at) else -1
            found = here if follows else source.find(anchor, at)
            read = lever.read(source, found + len(anchor)) if found >= 0 else None
            while read is None and found >= 0 and not follows:  # a line without a lever may begin alike
                found = source.find(anchor, found + 1)
                read = lever.read(source, found + len(anchor)) if found >= 0 else None
            held = read is not None
            if read is not None:
                out[lever.key], at = read
        return out
