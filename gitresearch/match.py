"""Where a SEARCH text stands in a file: a ladder of three rungs, each of which must find exactly one place.

Exactly; else with trailing space ignored; else with one indent more or less on every line. Never by likeness: in a
simulation 5 to 12 % of fuzzy matches landed wrong, and a wrong edit makes the hypothesis in the commit's message false.
Whole lines are compared, never parts of one, or `LR = 1` would be found in `MIN_LR = 1`. All of it takes time linear in
the text: `str.find` does the work, and its worst case is linear.
"""

import difflib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

NEAREST_LINES, NEAREST_WIDTH = 40, 200
_COMMON = 20  # a word on more lines of the search text than this says nothing about where it stands


@dataclass(frozen=True)
class Place:
    """The line (from 0) where a search text begins. The file's lines have `add` more indent than it, or `cut` less."""

    at: int
    add: str = ""
    cut: str = ""

    def fit(self, lines: Sequence[str]) -> list[str] | None:
        """New lines at the place's indent; None where one has less indent than must be cut."""
        if any(line.strip() and not line.startswith(self.cut) for line in lines):
            return None
        return [self.add + line.removeprefix(self.cut) if line.strip() else line for line in lines]


def places(lines: Sequence[str], wanted: Sequence[str]) -> list[Place]:
    """Where `wanted` stands, by the first rung that finds it; two stand for any number. Blank text is nowhere."""
    if not any(line.strip() for line in wanted):
        return []
    exact = _found(_rows(lines), _rows(wanted))
    loose = exact or _found(_rows([line.rstrip() for line in lines]), _rows([line.rstrip() for line in wanted]))
    return [Place(at) for at in loose] or _shifted(lines, wanted)


def _rows(lines: Sequence[str]) -> str:
    return "\n" + "".join(f"{line}\n" for line in lines)


def _found(text: str, part: str) -> list[int]:
    """The lines where `part` begins in `text`, two at most; they may overlap."""
    first = text.find(part)
    starts = [first, text.find(part, first + 1)] if first >= 0 else []
    return [text.count("\n", 0, start) for start in starts if start >= 0]


def _shifted(lines: Sequence[str], wanted: Sequence[str]) -> list[Place]:
    """Where `wanted` stands with another indent: the same words, and the same steps of indent from line to line."""
    text, part = _rows(_steps(lines)), _rows(_steps(wanted))
    mark = part.find("\0")  # the first line's step depends on what stands above it
    if not wanted[0].strip() or mark < 0:
        return []
    found = []
    for start in _found(text, part[mark:]):
        at = start - 1  # the search began inside the line, behind its line break
        place = _shift(at, lines[at : at + len(wanted)], wanted)
        if place is None:
            return []  # tabs and spaces mixed: no one indent makes them equal
        found.append(place)
    return found


def _steps(lines: Sequence[str]) -> list[str]:
    """Each line as its step of indent from the line before and its words; blank lines have no indent of their own."""
    out, before = [], 0
    for line in lines:
        words = line.strip()
        indent = len(line) - len(line.lstrip()) if words else before
        out.append(f"{indent - before}\0{words}")
        before = indent
    return out


def _shift(at: int, have: Sequence[str], want: Sequence[str]) -> Place | None:
    """The one indent by which all lines differ, or None."""
    margins = [(_margin(a), _margin(b)) for a, b in zip(have, want, strict=True) if b.strip()]
    ours, theirs = margins[0]
    place = Place(at, add=ours.removesuffix(theirs) if ours != theirs and ours.endswith(theirs) else "")
    if not place.add:
        place = Place(at, cut=theirs.removesuffix(ours) if theirs.endswith(ours) else "")
    fits = all(place.add + b == place.cut + a for a, b in margins)
    return place if fits else None


def _margin(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def nearest(lines: Sequence[str], wanted: Sequence[str]) -> int:
    """The line where a window as long as `wanted` shares the most words with it, line by line; rare words weigh more.

    Every word of the file votes for the windows that would put it on its line: linear, unlike comparing windows.
    """
    where: dict[str, list[int]] = defaultdict(list)
    for index, line in enumerate(wanted):
        for word in set(line.split()):
            where[word].append(index)
    votes: Counter[int] = Counter()
    for index, line in enumerate(lines):
        for word in set(line.split()):
            spots = where.get(word, ())
            if len(spots) <= _COMMON:
                for spot in spots:
                    votes[max(0, index - spot)] += _COMMON // len(spots)
    return min(votes, key=lambda at: (-votes[at], at), default=0)


def compared(window: Sequence[str], wanted: Sequence[str]) -> str:
    """The window and its difference from the search text, cut to what is worth reading."""
    have = [line[:NEAREST_WIDTH] for line in window[:NEAREST_LINES]]
    want = [line[:NEAREST_WIDTH] for line in wanted[:NEAREST_LINES]]
    change = list(difflib.unified_diff(have, want, "the file", "your SEARCH", lineterm="", n=1))
    return "\n".join(have) + ("\n\nThe difference:\n" + "\n".join(change[: 2 * NEAREST_LINES]) if change else "")
