"""Why a program crashed, from its log: a label to group by and the lines that show it.

A log is hostile text. It is cleaned, cut and quoted; it decides nothing but the label of a failure.
"""

import re

from gitresearch.text import clean

MAX_LINES, MAX_LINE = 12, 200
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w]*\.)*([A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning|Killed))\b:?(.*)")
_RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*)(?::|$)")  # what stands below the frames of a traceback
_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+)')


def tidy(line: str) -> str:
    return clean(line).replace("\n", " ").replace("\t", "  ").rstrip()[:MAX_LINE]


def last_lines(log: bytes, count: int = MAX_LINES) -> tuple[str, ...]:
    """The log's last lines, cleaned."""
    return tuple(_rows(log[-64_000:]))[-count:]


def _rows(log: bytes) -> list[str]:
    """The lines as a terminal would leave them: of a progress bar, its last state."""
    rows = (row.rstrip("\r").rpartition("\r")[2] for row in log.decode("utf-8", "replace").split("\n"))
    return [row for row in (tidy(row) for row in rows) if row]


def explain(log: bytes, signal_name: str, exit_code: int) -> tuple[str, tuple[str, ...]]:
    """(label, lines): the last exception with the deepest frame in the trial's own files, or how the process ended."""
    rows = _rows(log[-256_000:])
    if not signal_name and (found := _raised(rows)):
        label, index = found
        return label, (*_frame(rows[:index]), rows[index])
    lines = tuple(rows[-MAX_LINES + 1 :])
    return (signal_name or f"exit_{exit_code}"), (*lines, f"ended by {signal_name or f'exit status {exit_code}'}")


def _raised(rows: list[str]) -> tuple[str, int] | None:
    """The last exception's name and its row: below the last traceback, else whatever looks like one."""
    start = max((i for i, row in enumerate(rows) if "Traceback (most recent call last)" in row), default=None)
    if start is not None:
        below = next((i for i in range(start + 1, len(rows)) if not rows[i].startswith(" ")), None)
        if below is not None and (match := _RAISED.match(rows[below])):
            return match[1], below
    for index in range(len(rows) - 1, -1, -1):
        if match := _EXCEPTION.match(rows[index]):
            return match[1], index
    return None


def _frame(rows: list[str]) -> tuple[str, ...]:
    """The deepest frame of the last traceback that lies in the trial's own files, with its source line."""
    start = max((i for i, row in enumerate(rows) if "Traceback (most" in row), default=0)
    own = [i for i in range(start, len(rows)) if (m := _FRAME.match(rows[i])) and _is_own(m[1])]
    if not own:
        return ()
    return tuple(rows[own[-1] : own[-1] + 2])


def _is_own(path: str) -> bool:
    return "site-packages" not in path and "/lib/python" not in path and not path.startswith("<")
