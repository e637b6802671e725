"""An agent's answer in plain text -> checked file changes.

The format (code never travels inside JSON: measured by aider, models write worse code there):

    title: what is changed, one line
    why: the mechanism expected, any number of lines
    expect: -0.02

    path/to/file.py
    <<<<<<< SEARCH
    lines as they are
    =======
    lines as they should be
    >>>>>>> REPLACE

    path/to/other.py
    <<<<<<< FILE
    the whole new file
    >>>>>>> FILE

A block is applied where its search text stands exactly; else where it stands after trailing space is ignored; else
where it stands after one uniform shift of indent; and each time only if it stands in one place. Never by likeness: in a
simulation 5 to 12 % of fuzzy matches landed wrong, and a wrong edit falsifies the hypothesis in the commit's message.
What matches nowhere is a Mismatch, which shows the nearest block so that the agent can be asked again.
"""

import ast
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gitresearch.errors import GitResearchError
from gitresearch.text import clean

MAX_ANSWER = MAX_FILE = 1 << 20
MAX_BLOCKS = 200
_OPEN = re.compile(r"<{5,9} ?(SEARCH|FILE)\s*")
_MIDDLE = re.compile(r"={5,9}\s*")
_CLOSE = re.compile(r">{5,9} ?(REPLACE|FILE)\s*")
_HEADER = re.compile(r"\s*[*_#`]*(title|why|expect)[*_`]*\s*:[*_]*\s*(.*)", re.IGNORECASE)
_NUMBER = re.compile(r"[-+−]?\d*\.?\d+(?:[eE][-+]?\d+)?")
# Markup of other formats that models let slip into text (5 % of a published record was lost to it).
_LEAK = re.compile(
    r"</?(?:hypothesis|parameter|invoke|function_calls?|tool_call|tool_use|antml:\w+|think|thinking|answer|notes)\b[^>\n]*>"
    r"|<\|[a-z_]{2,20}\|>|\[/?(?:INST|TOOL_CALLS)\]",
    re.IGNORECASE,
)


class EditError(GitResearchError):
    """An answer that can't become an edit; the message is written for the agent that gave it."""


@dataclass(frozen=True)
class Block:
    """One change: replace `search` by `replace` in a file, or (search None) write the whole file."""

    path: str
    search: str | None
    replace: str


@dataclass(frozen=True)
class Answer:
    """An answer, read but not yet applied. `expect` is in the metric's units."""

    title: str
    why: str
    expect: float | None
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Mismatch:
    """A block whose search text stands nowhere, or in several places; `nearest` is what comes closest."""

    block: Block
    why: str
    nearest: str = ""


@dataclass
class Applied:
    """What came of the blocks: whole new files by path, and what did not fit."""

    edits: dict[str, bytes] = field(default_factory=dict)
    mismatches: list[Mismatch] = field(default_factory=list)


def parse(text: str) -> Answer:
    """Read an answer. EditError where it holds no block or is out of bounds. Cost is linear in its length."""
    if len(text) > MAX_ANSWER:
        raise EditError(f"the answer is longer than {MAX_ANSWER} characters")
    lines = text.replace("\r\n", "\n").split("\n")
    blocks, first = [], len(lines)
    at = 0
    while at < len(lines):
        opened = _OPEN.fullmatch(lines[at].strip())
        if opened:
            first = min(first, at)
            block, at = _block(lines, at, opened[1])
            blocks.append(block)
            if len(blocks) > MAX_BLOCKS:
                raise EditError(f"the answer has more than {MAX_BLOCKS} blocks")
        at += 1
    if not blocks:
        raise EditError("the answer has no SEARCH/REPLACE block and no FILE block")
    header = _header(lines[: max(first - 1, 0)])
    number = _NUMBER.search(header.get("expect", ""))
    expect = float(number[0].replace("−", "-")) if number else None
    title = _prose(header.get("title", "")).split("\n")[0]
    return Answer(title, _prose(header.get("why", "")), expect, tuple(blocks))


def _header(lines: list[str]) -> dict[str, str]:
    """The `title:`, `why:` and `expect:` parts; a part goes on until the next begins. The first of a name counts."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in lines:
        if match := _HEADER.fullmatch(line):
            current = found.setdefault(match[1].lower(), []) if match[1].lower() not in found else []
            current.append(match[2])
        elif current is not None:
            current.append(line)
    return {name: "\n".join(rows).strip() for name, rows in found.items()}


def _prose(text: str) -> str:
    """Header text without leaked markup, fences and controls."""
    return clean(_LEAK.sub("", text)).replace("```", "").strip(" *_`\n")


def _block(lines: list[str], start: int, kind: str) -> tuple[Block, int]:
    """The block that opens at a line, and the line it closes on."""
    path = _path_above(lines, start)
    middle = end = 0
    for at in range(start + 1, len(lines)):
        line = lines[at].strip()
        if _OPEN.fullmatch(line):
            break
        if kind == "SEARCH" and not middle and _MIDDLE.fullmatch(line):
            middle = at
        elif _CLOSE.fullmatch(line):
            end = at
            break
    if not end or (kind == "SEARCH" and not middle):
        raise EditError(f"the block for {path or 'a file'} is not closed: markers out of order or cut off")
    if not path:
        raise EditError("a block must stand below a line with the file's path")
    if kind == "FILE":
        return Block(path, None, _joined(lines[start + 1 : end])), end
    return Block(path, _joined(lines[start + 1 : middle]), _joined(lines[middle + 1 : end])), end


def _joined(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _path_above(lines: list[str], start: int) -> str:
    """The path on the nearest line above that is not blank and no fence."""
    for at in range(start - 1, max(start - 5, -1), -1):
        line = lines[at].strip().strip("`*#: ").strip()
        if line and not re.fullmatch(r"(?:python|py|text|diff)?", line):
            return line.removeprefix("./") if re.fullmatch(r"[\w./ -]{1,200}", line) else ""
    return ""


def apply(answer: Answer, files: Mapping[str, bytes]) -> Applied:
    """Apply the blocks in order. What doesn't fit is in `mismatches`, and then `edits` must not be used."""
    result = Applied()
    for block in answer.blocks:
        before = result.edits.get(block.path, files.get(block.path))
        if _unsafe(block.path):
            result.mismatches.append(Mismatch(block, f"{block.path!r} is no path inside the recipe"))
        elif leak := _leaked(block.replace, before):
            result.mismatches.append(Mismatch(block, f"the new text holds markup of another format: {leak}"))
        elif block.search is None:
            result.edits[block.path] = block.replace.encode()
        else:
            _apply_one(result, block, before)
    return result


def _apply_one(result: Applied, block: Block, before: bytes | None) -> None:
    if before is None:
        result.mismatches.append(Mismatch(block, f"there is no file {block.path}"))
        return
    try:
        text = before.decode("utf-8")
    except UnicodeDecodeError:
        result.mismatches.append(Mismatch(block, f"{block.path} is no text file"))
        return
    found = replaced(text, block.search or "", block.replace)
    if isinstance(found, str):
        result.edits[block.path] = found.encode()
    else:
        why = "stands in several places" if found else "stands nowhere"
        where = f"the SEARCH text {why} in {block.path}"
        result.mismatches.append(Mismatch(block, where, nearest(text, block.search or "")))


def replaced(text: str, search: str, new: str) -> str | int:
    """The text with the one place of `search` replaced; else how many places there are (0, or 2 for several)."""
    if not search.strip():
        return 0
    count = text.count(search)
    if count == 1:
        return text.replace(search, new)
    if count > 1:
        return 2
    lines, wanted = text.splitlines(keepends=True), search.splitlines()
    for key in (str.rstrip, str.strip):
        places = _places([key(line) for line in lines], [key(line) for line in wanted])
        if key is str.strip:
            places = [at for at in places if _shift(lines[at : at + len(wanted)], wanted) is not None]
        if len(places) == 1:
            at = places[0]
            shift = _shift(lines[at : at + len(wanted)], wanted) if key is str.strip else 0
            return "".join([*lines[:at], _shifted(new, shift or 0), *lines[at + len(wanted) :]])
        if places:
            return 2
    return 0


def _places(lines: list[str], wanted: list[str]) -> list[int]:
    """Where `wanted` stands in `lines`; at most two are looked for. Linear but for repeated first lines."""
    found: list[int] = []
    for at in range(len(lines) - len(wanted) + 1):
        if lines[at] == wanted[0] and lines[at : at + len(wanted)] == wanted:
            found.append(at)
            if len(found) == 2:
                break
    return found


def _shift(lines: list[str], wanted: list[str]) -> int | None:
    """The one number of spaces by which `lines` are indented more than `wanted`; None where it differs by line."""
    shifts = {
        (len(have) - len(have.lstrip(" "))) - (len(want) - len(want.lstrip(" ")))
        for have, want in zip(lines, wanted, strict=True)
        if want.strip()
    }
    return shifts.pop() if len(shifts) == 1 else None


def _shifted(text: str, shift: int) -> str:
    if shift == 0:
        return text
    out = []
    for line in text.splitlines(keepends=True):
        spaces = len(line) - len(line.lstrip(" "))
        out.append(" " * max(0, spaces + shift) + line.lstrip(" ") if line.strip() else line)
    return "".join(out)


def nearest(text: str, search: str) -> str:
    """The lines of the text most like the search text, as many as it has; compared on a bounded number of windows."""
    lines, wanted = text.split("\n")[:5000], search.rstrip("\n").split("\n")[:100]
    size = len(wanted)
    words = [set(line.split()) for line in lines]
    target = [set(line.split()) for line in wanted]
    best, best_score = 0, -1.0
    for at in range(max(1, len(lines) - size + 1)):
        score = sum(len(a & b) for a, b in zip(words[at : at + size], target, strict=False))
        if score > best_score:
            best, best_score = at, score
    window = lines[best : best + size]
    shown = list(difflib.unified_diff(window, wanted, "the file", "your SEARCH", lineterm="", n=1))[:40]
    return "\n".join(window[:40]) + ("\n\nthe difference:\n" + "\n".join(shown) if shown else "")


def _leaked(new: str, before: bytes | None) -> str:
    """Leaked tool markup in new text that the file did not hold before."""
    match = _LEAK.search(new)
    return match[0] if match and match[0].encode() not in (before or b"") else ""


def _unsafe(path: str) -> bool:
    parts = path.split("/")
    return path.startswith("/") or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts)


def broken(edits: Mapping[str, bytes]) -> list[str]:
    """What is wrong with the new files in themselves: too large, or Python that does not parse."""
    found = []
    for path, data in edits.items():
        if len(data) > MAX_FILE:
            found.append(f"{path} is larger than {MAX_FILE} bytes")
        elif path.endswith(".py"):
            try:
                ast.parse(data)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                found.append(f"{path} does not parse: {error}")
    return found
