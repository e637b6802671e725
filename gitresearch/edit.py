"""An agent's answer in plain text -> checked file changes.

The format (code never travels inside JSON, where models write it measurably worse):

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

    path/to/old.py
    <<<<<<< DELETE
    >>>>>>> DELETE

What stands around the parts (fences, prose, reasoning) is ignored. Blocks are applied all or none: a block whose search
text stands in no place or in several (see match.py) is a Mismatch, which shows the nearest lines so that the agent can
be asked again. Markup of other formats never reaches a title or a file: 5 % of a published record was lost to it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gitresearch.errors import GitResearchError
from gitresearch.match import compared, nearest, places
from gitresearch.surface import Edits, Surface, python_tree, safe_path
from gitresearch.text import clean, is_safe, one_line

MAX_ANSWER = MAX_FILE = 1 << 20
# How an agent is told to state its hypothesis; `heading` and `parse` read it.
HEADING = """\
title: the change in one line of at most 72 characters, imperative
why: the mechanism you expect, and what in the lineage speaks for it
expect: the change of the metric you expect, as a signed number"""
MAX_BLOCKS, MAX_MISMATCHES = 100, 3
_MARK = re.compile(r"(<{5,9}) ?(SEARCH|FILE|DELETE)|(={5,9})|(>{5,9})(?: ?(?:SEARCH|REPLACE|FILE|DELETE))?")
_FENCE = re.compile(r"(?:`{3,}|~{3,})[\w+.-]*")
_HEADER = re.compile(r"\s*[*_#`]*(title|why|expect)[*_`]*\s*:[*_]*\s*(.*)", re.IGNORECASE)
_PATH = re.compile(r"(?:(?:file(?:name)?|path)\W{0,4}:)?[\s`*'\"]*([\w.][\w./+@ -]{0,198}?)[`*'\":\s]*", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?\d{1,3})?+(?!\w|\.\d)")
_NOT_ALONE = re.compile(r"\s*(?:%|percent|to\b|->|→|\.\.|–)")
_LEAK = re.compile(
    r"</?(?:[a-z]{1,20}:)?(?:hypothesis|parameters?|invoke|function_(?:calls?|results?)|tool_?(?:calls?|uses?|results?)"
    r"|think(?:ing)?|scratchpad|answer|notes)\b[^<>\n]{0,200}>"
    r"|<[|｜][\w▁ ]{1,40}[|｜]>|\[/?(?:INST|TOOL_CALLS)\]|\*\*\* (?:Begin|End) Patch"
    r'|\{\s{0,20}"(?:name|tool|function)"\s{0,20}:\s{0,20}"[^"\n]{1,80}"\s{0,20},\s{0,20}"(?:arguments|parameters|input)"',
    re.IGNORECASE,
)


class EditError(GitResearchError):
    """An answer that can't become an edit; the message is written for the agent that gave it."""


@dataclass(frozen=True)
class Block:
    """One change: `search` becomes `replace`. Without `search` the whole file is written, or, without both, deleted."""

    path: str
    search: str | None
    replace: str | None


@dataclass(frozen=True)
class Answer:
    """An answer, read but not yet applied. `expect` is in the metric's units."""

    title: str
    why: str
    expect: float | None
    blocks: tuple[Block, ...]


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


def heading(text: str) -> tuple[str, str, float | None]:
    """Title, reason and expected change of a text that holds nothing else. EditError where it has no title."""
    require_short(text)
    found = _header(_answer_lines(text))
    return _title(found), _prose(found.get("why", "")), _expected(found.get("expect", ""))


class _Mark(NamedTuple):
    """A marker line: where it stands, which kind (`<`, `=`, `>`), how long, and what an opening one opens."""

    at: int
    kind: str
    size: int
    opens: str


def require_short(text: str) -> None:
    """EditError where an answer is beyond the bound."""
    if len(text) > MAX_ANSWER:
        raise EditError(f"the answer is longer than {MAX_ANSWER} characters")


def has_blocks(text: str) -> bool:
    """Whether the text holds a line that opens a block."""
    return any(mark.kind == "<" for line in text.split("\n") if (mark := _mark(0, line)))


def parse(text: str, *, bare: bool = False) -> Answer:
    """Read an answer; a `bare` one may lack its title. EditError where it has no title, no block, or is out of bounds.
    Cost is linear in its length."""
    require_short(text)
    lines = _answer_lines(text)
    marks = [mark for at, line in enumerate(lines) if (mark := _mark(at, line))]
    opened = [index for index, mark in enumerate(marks) if mark.kind == "<"]
    if not opened:
        raise EditError("the answer has no SEARCH/REPLACE, FILE or DELETE block")
    if len(opened) > MAX_BLOCKS:
        raise EditError(f"the answer has more than {MAX_BLOCKS} blocks")
    blocks: list[Block] = []
    head, head_end, above, path = 0, 0, 0, ""
    for index, until in zip(opened, [*opened[1:], len(marks)], strict=True):
        ended = _thought_end(lines, above, marks[index].at)
        if ended:
            blocks, head, above, path = [], ended, ended, ""
        again = path if marks[index].opens == "SEARCH" else ""
        path, path_at = _path_above(lines, marks[index].at, above, again)
        head_end = path_at if not blocks else head_end
        block, above = _block(lines, path, marks[index], marks[index + 1 : until])
        blocks.append(block)
    header = _header(lines[head:head_end])
    title = "" if bare and "title" not in header else _title(header)
    return Answer(title, _prose(header.get("why", "")), _expected(header.get("expect", "")), tuple(blocks))


def _answer_lines(text: str) -> list[str]:
    """The answer's lines, without the reasoning it may open with, and with nothing that can't be encoded."""
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n")
    start = re.match(r"\s*<think(?:ing)?>", text, re.IGNORECASE)
    if start:
        end = re.compile(r"</think(?:ing)?>", re.IGNORECASE).search(text, start.end())
        if end is None:
            raise EditError("the answer ends before its reasoning does")
        text = text[end.end() :]
    return text.split("\n")


def _thought_end(lines: Sequence[str], start: int, end: int) -> int:
    """The line behind a `</think>` whose opening tag the server kept to itself: what stands above it is no answer."""
    for at in range(end - 1, start - 1, -1):
        if lines[at].strip().lower() in ("</think>", "</thinking>"):
            return at + 1
    return 0


def _mark(at: int, line: str) -> _Mark | None:
    bare = line.strip()
    if bare[:1] not in ("<", "=", ">") or not (match := _MARK.fullmatch(bare)):
        return None
    run = match[1] or match[3] or match[4]
    return _Mark(at, run[0], len(run), match[2] or "")


def _block(lines: list[str], path: str, opened: _Mark, marks: Sequence[_Mark]) -> tuple[Block, int]:
    """The block of the marks up to the next opening one, and the line behind it.

    A mark as long as the opening one counts before any other: `=====` may be a heading's underline in the file.
    """
    if not path:
        raise EditError("a block must stand below a line with the file's path")
    closing = [mark for mark in marks if mark.kind == ">"]
    close = next((mark for mark in closing if mark.size == opened.size), closing[0] if closing else None)
    if opened.opens == "DELETE":
        return Block(path, None, None), (close or opened).at + 1
    if close is None:
        raise EditError(f"the block for {path} is not closed: a marker is missing, or the answer was cut off")
    if opened.opens == "FILE":
        return Block(path, None, _section(lines, path, opened.at, close.at)), close.at + 1
    middles = [mark for mark in marks if mark.kind == "=" and mark.at < close.at]
    middles = [mark for mark in middles if mark.size == opened.size] or middles
    if len(middles) != 1:
        raise EditError(f"the block for {path} must have one line of {'=' * opened.size} and has {len(middles)}")
    middle = middles[0].at
    return (
        Block(path, _section(lines, path, opened.at, middle), _section(lines, path, middle, close.at)),
        close.at + 1,
    )


def _section(lines: list[str], path: str, start: int, end: int) -> str:
    """The lines between two markers, out of the fence that some models put round them."""
    part = lines[start + 1 : end]
    fenced = len(part) > 1 and _FENCE.fullmatch(part[0].strip()) and part[-1].strip() in ("```", "~~~")
    if fenced and not path.endswith(".md"):
        part = part[1:-1]
    return "".join(f"{line}\n" for line in part)


def _path_above(lines: Sequence[str], at: int, floor: int, before: str) -> tuple[str, int]:
    """The path on the nearest line above that is not blank and no fence, and that line; the path of the block before
    where nothing else stands between."""
    for index in range(at - 1, max(at - 5, floor - 1), -1):
        line = lines[index].strip().lstrip("#*>- ")
        if not line or _FENCE.fullmatch(line):
            continue
        match = _PATH.fullmatch(line) if len(line) <= 300 else None
        return (match[1].strip().removeprefix("./") if match else ""), index
    return before, floor


def _header(lines: Sequence[str]) -> dict[str, str]:
    """The `title:`, `why:` and `expect:` parts; a part goes on until the next begins. The first of a name counts."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in lines:
        if match := _HEADER.fullmatch(line):
            name = match[1].lower()
            current = [] if name in found else found.setdefault(name, [])
            current.append(match[2])
        elif current is not None:
            current.append(line)
    return {name: "\n".join(rows).strip() for name, rows in found.items()}


def _title(header: Mapping[str, str]) -> str:
    title = _prose(header.get("title", "").partition("\n")[0])
    if not re.search(r"\w", title) or title.startswith(("{", "<")):
        raise EditError("the answer has no line `title: ` that says what is changed")
    return title


def _prose(text: str) -> str:
    """Header text without leaked markup, fences and controls."""
    text = clean(text)
    for _ in range(5):  # what is left may close up to another tag
        text, count = _LEAK.subn("", text)
        if not count:
            break
    else:
        text = text.replace("<", "").replace(">", "")
    return text.replace("```", "").strip(" *_`\n")


def _expected(text: str) -> float | None:
    """The number the line begins with, or its only one; None for a percentage or a range: no change of the metric."""
    line = text.partition("\n")[0][:200].strip(" ~≈<>=*_`")
    numbers = list(_NUMBER.finditer(line))
    if not numbers or (numbers[0].start() and len(numbers) > 1) or _NOT_ALONE.match(line, numbers[0].end()):
        return None
    value = float(numbers[0][0].replace("−", "-"))
    return value if math.isfinite(value) else None


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
    known = {leak.lower() for leak in _LEAK.findall(old)}
    for match in _LEAK.finditer(new):
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
