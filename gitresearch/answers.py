"""An agent's answer in plain text -> its hypothesis and its blocks; edit.py makes file changes of them.

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

What stands around the parts (fences, prose, reasoning) is ignored. Markup of other formats never reaches a title or a
file: 5 % of a published record was lost to it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gitresearch.errors import GitResearchError
from gitresearch.text import clean

MAX_ANSWER = 1 << 20  # characters
# How an agent is told to state its hypothesis; `heading` and `parse` read it.
HEADING = """\
title: the change in one line of at most 72 characters, imperative
why: the mechanism you expect, and what in the lineage speaks for it
expect: the change of the metric you expect, as a signed number"""
MAX_BLOCKS = 100
_MARK = re.compile(r"(<{5,9}) ?(SEARCH|FILE|DELETE)|(={5,9})|(>{5,9})(?: ?(?:SEARCH|REPLACE|FILE|DELETE))?")
_FENCE = re.compile(r"(?:`{3,}|~{3,})[\w+.-]*")
_HEADER = re.compile(r"\s*[*_#`]*(title|why|expect)[*_`]*\s*:[*_]*\s*(.*)", re.IGNORECASE)
_PATH = re.compile(r"(?:(?:file(?:name)?|path)\W{0,4}:)?[\s`*'\"]*([\w.][\w./+@ -]{0,198}?)[`*'\":\s]*", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?\d{1,3})?+(?!\w|\.\d)")
_NOT_ALONE = re.compile(r"\s*(?:%|percent|to\b|->|→|\.\.|–)")
LEAK = re.compile(
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
        text, count = LEAK.subn("", text)
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
