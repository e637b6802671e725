"""The blocks of an agent's answer -> checked file changes.

Blocks are applied all or none: a block whose search text stands in no place or in several (see match.py) is a Mismatch,
which shows the nearest lines so that the agent can be asked again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gitresearch import answers
from gitresearch.answers import Answer, Block, EditError
from gitresearch.match import compared, nearest, places
from gitresearch.surface import Edits, Surface, python_tree, safe_path
from gitresearch.text import is_safe, one_line

MAX_FILE = 1 << 20  # bytes
MAX_MISMATCHES = 3


@dataclass(frozen=True)
class Mismatch:
    """A block that doesn't fit. `nearest` shows what comes closest; it begins at `line` (from 1; 0: there is none)."""

    block: Block
    why: str
    nearest: str = ""
    line: int = 0

    def told(self, surface: Surface, files: Mapping[str, bytes]) -> str:
        """The mismatch for the agent, with whether the place is its own to edit."""
        if not self.line:
            return f"{self.why}."
        inside = _inside(surface, self.block.path, files.get(self.block.path, b""), self.line)
        where = f"line {self.line}, {'in' if inside else 'outside'} your surface"
        return f"{self.why}.\nThe nearest lines ({where}):\n{self.nearest}"


@dataclass
class Applied:
    """What came of the blocks: new files by path (None: deleted), and what did not fit."""

    edits: dict[str, bytes | None] = field(default_factory=dict)
    mismatches: list[Mismatch] = field(default_factory=list)


def edits_of(answer: Answer, files: Mapping[str, bytes], surface: Surface) -> Edits:
    """The answer's edits, checked. EditError says all that is wrong with them, for the agent."""
    applied = apply(answer, files)
    if applied.mismatches:
        raise EditError("\n\n".join(mismatch.told(surface, files) for mismatch in applied.mismatches))
    edits = {path: data for path, data in applied.edits.items() if files.get(path) != data}
    if not edits:
        raise EditError("the edit changes nothing")
    check(edits, files, surface)
    return edits


def check(edits: Edits, files: Mapping[str, bytes], surface: Surface) -> None:
    """EditError where edits leave the surface, or make files that are broken in themselves."""
    wrong = broken(edits)
    whole = {path: data for path, data in edits.items() if path not in wrong}
    told = [*surface.violations(files, whole), *wrong.values()]
    if told:
        raise EditError("; ".join(told[:5]))


def apply(answer: Answer, files: Mapping[str, bytes]) -> Applied:
    """Apply the blocks in order. What doesn't fit is in `mismatches` (the first few), and then `edits` is not whole."""
    result = Applied()
    for block in answer.blocks:
        before = result.edits[block.path] if block.path in result.edits else files.get(block.path)
        why = _refused(block, before)
        mismatch = Mismatch(block, why) if why else _apply_one(result.edits, block, before)
        if mismatch:
            result.mismatches.append(mismatch)
            if len(result.mismatches) == MAX_MISMATCHES:
                break
    return result


def _refused(block: Block, before: bytes | None) -> str:
    """Why a block is not even tried."""
    if not safe_path(block.path) or (before is None and not re.fullmatch(r"[\w./+@-]+", block.path, re.ASCII)):
        return f"{one_line(block.path, 100)!r} is no path for a file of the recipe"
    old = (before or b"").decode("utf-8", "replace")
    new = block.replace or ""
    known = {leak.lower() for leak in answers.LEAK.findall(old)}
    for match in answers.LEAK.finditer(new):
        if match[0].lower() not in known:
            return (
                f"the new text for {block.path} holds markup of another format, {one_line(match[0], 80)!r}; "
                "if it is meant, write it as two strings joined"
            )
    if not is_safe(new) and is_safe(old.replace("\r\n", "\n")):
        return f"the new text for {block.path} holds a character that nobody sees"
    return ""


def _apply_one(edits: dict[str, bytes | None], block: Block, before: bytes | None) -> Mismatch | None:
    """Put the block's file into the edits, or say why it doesn't fit."""
    whole = block.search is None or (not block.search.strip() and not before)
    if before is None and not (whole and block.replace is not None):
        return Mismatch(block, f"there is no file {block.path}")
    if whole:
        edits[block.path] = None if block.replace is None else block.replace.encode()
        return None
    try:
        text = (before or b"").decode("utf-8")
    except UnicodeDecodeError:
        return Mismatch(block, f"{block.path} is no text file")
    found = replaced(text, block.search or "", block.replace or "")
    if isinstance(found, Mismatch):
        return Mismatch(block, f"the SEARCH text {found.why} {block.path}", found.nearest, found.line)
    edits[block.path] = found.encode()
    return None


def replaced(text: str, search: str, new: str) -> str | Mismatch:
    """The text with the one place of `search` replaced, in the line ends of the text; else why that can't be."""
    crlf = 0 < text.count("\n") == text.count("\r\n") == text.count("\r")
    body = text.replace("\r\n", "\n") if crlf else text
    lines, wanted = body.split("\n"), search.split("\n")[:-1]
    end = [""] if lines[-1] == "" else []
    lines = lines[: len(lines) - len(end)]
    found = places(lines, wanted)
    fitted = found[0].fit(new.split("\n")[:-1]) if len(found) == 1 else None
    if fitted is None:
        at = found[0].at if found else nearest(lines, wanted)
        why = "stands in several places of" if len(found) > 1 else "stands nowhere in"
        return Mismatch(Block("", search, new), why, compared(lines[at : at + len(wanted)], wanted), at + 1)
    kept = [*lines[: found[0].at], *fitted, *lines[found[0].at + len(wanted) :]]
    out = "\n".join([*kept, *end]) if kept else ""
    return out.replace("\n", "\r\n") if crlf else out


def _inside(surface: Surface, path: str, data: bytes, line: int) -> bool:
    try:
        return any(first <= line <= last for first, last in surface.spans(path, data.decode("utf-8")))
    except (SyntaxError, ValueError):
        return surface.touches(path)


def broken(edits: Edits) -> dict[str, str]:
    """What is wrong with a new file in itself, by path: too large, or Python that does not parse."""
    found = {}
    for path, data in edits.items():
        if data is not None and len(data) > MAX_FILE:
            found[path] = f"{path} is larger than {MAX_FILE} bytes"
        elif data is not None and path.endswith(".py"):
            try:
                python_tree(data)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                why = one_line(str(error).replace("(<unknown>, line ", "(line "), 120)
                found[path] = f"{path} does not parse: {why}"
    return found
