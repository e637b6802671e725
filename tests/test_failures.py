"""Why a program crashed, read from logs as programs really leave them, and from hostile ones."""

import random
import time

import pytest

from gitresearch.failures import MAX_LINE, MAX_LINES, explain, last_lines, tidy
from gitresearch.text import is_safe

PLAIN = b"""step 1 loss 2.5
Traceback (most recent call last):
  File "/trial/train.py", line 40, in <module>
    main()
  File "/trial/model.py", line 7, in forward
    return self.missing(x)
  File "/usr/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1928, in __getattr__
    raise AttributeError(name)
AttributeError: 'Model' object has no attribute 'missing'
"""
CHAINED = b"""Traceback (most recent call last):
  File "/trial/train.py", line 3, in load
    open("a")
FileNotFoundError: [Errno 2] No such file or directory: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/trial/train.py", line 9, in <module>
    load()
  File "/trial/train.py", line 5, in load
    raise Missing("no data") from None
data.Missing: no data
"""
SYNTAX = b"""  File "/trial/train.py", line 2
    x = (
        ^
SyntaxError: '(' was never closed
"""
MEMORY = b"""Traceback (most recent call last):
  File "/trial/train.py", line 12, in <module>
    y = x @ x
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
"""
NOISY = (
    PLAIN + b"/usr/lib/python3.11/multiprocessing/resource_tracker.py:254: UserWarning: leaked semaphores\n  warn(\n"
)


@pytest.mark.parametrize(
    ("log", "label", "frame", "line"),
    [
        (PLAIN, "AttributeError", '/trial/model.py", line 7', "AttributeError: 'Model' object has no"),
        (CHAINED, "Missing", '/trial/train.py", line 5', "data.Missing: no data"),
        (SYNTAX, "SyntaxError", '/trial/train.py", line 2', "SyntaxError: '(' was never closed"),
        (MEMORY, "OutOfMemoryError", 'train.py", line 12', "torch.OutOfMemoryError: CUDA out of memory."),
        (NOISY, "AttributeError", "model.py", "AttributeError"),
        (b"Exception in thread T:\n" + PLAIN, "AttributeError", "model.py", "AttributeError"),
        (b" 10%|#   | 1/10\r 50%|##  | 5/10" + PLAIN[16:], "AttributeError", "model.py", "AttributeError"),
        (PLAIN.replace(b"\n", b"\r\n"), "AttributeError", "model.py", "AttributeError"),
    ],
    ids=["plain", "chained", "syntax", "memory", "warning-after", "thread", "progress-bar", "crlf"],
)
def test_an_exception_is_named(log: bytes, label: str, frame: str, line: str) -> None:
    """The label is the exception's name; the lines are the deepest frame of the trial's own files and the message."""
    found, lines = explain(log, "", 1)

    assert found == label
    assert frame in lines[0]
    assert lines[-1].startswith(line)
    assert len(lines) == 3


def test_without_a_traceback_the_exit_status_is_the_label() -> None:
    """The last lines are kept, and how it ended is the last of them."""
    label, lines = explain(b"loading\nconfig is wrong\n", "", 7)

    assert (label, lines) == ("exit_7", ("loading", "config is wrong", "ended by exit status 7"))


def test_silence() -> None:
    """A program that says nothing has a label and a line all the same."""
    assert explain(b"", "", 3) == ("exit_3", ("ended by exit status 3",))


def test_a_signal_is_the_reason_whatever_was_printed_before() -> None:
    """A program killed after it printed a traceback that it had handled was killed."""
    label, lines = explain(PLAIN + b"retrying\n", "SIGKILL", 137)

    assert label == "SIGKILL"
    assert lines[-2:] == ("retrying", "ended by SIGKILL")
    assert len(lines) <= MAX_LINES


def test_frames_of_libraries_are_not_the_trials() -> None:
    """Where no frame is the trial's own, the message stands alone."""
    log = b'Traceback (most recent call last):\n  File "<frozen runpy>", line 1\nImportError: no\n'

    assert explain(log, "", 1) == ("ImportError", ("ImportError: no",))


def test_rubbish() -> None:
    """Random bytes become clean short lines."""
    label, lines = explain(random.Random(5).randbytes(50_000), "", 1)

    assert label
    assert 0 < len(lines) <= MAX_LINES
    assert all(is_safe(line) and "\n" not in line and len(line) <= MAX_LINE for line in lines)


@pytest.mark.parametrize(
    "log",
    [b"\n" * 400_000, b"x" * 400_000, b"a\n" * 200_000, b"Error: " * 60_000, b"\x1b[" * 100_000, b"A." * 200_000],
    ids=["empty-lines", "one-line", "short-lines", "almost-exceptions", "escapes", "dots"],
)
def test_huge_logs_are_quick(log: bytes) -> None:
    """A log that is built to be slow to read is read in a second or two."""
    began = time.monotonic()

    _, lines = explain(log, "", 1)

    assert time.monotonic() - began < 3
    assert len(lines) <= MAX_LINES


def test_hostile_lines_are_cleaned() -> None:
    """Escape sequences, controls and bidirectional overrides don't come through; long lines are cut."""
    assert tidy("\x1b]0;owned\x07red\x1b[31m \u202eevil\x00\x9b\tend  ") == "red evil  end"
    assert len(tidy("x" * 5000)) == MAX_LINE
    label, lines = explain(b"Traceback (most recent call last):\nValueError: \x1b[2J\xe2\x80\xaekeep me\n", "", 1)
    assert (label, lines) == ("ValueError", ("ValueError: keep me",))


def test_last_lines() -> None:
    """The last lines that hold something, of a progress bar its last state."""
    assert last_lines(b"one\n\n10%\r20%\r30%\n\nthree\r\n", 2) == ("30%", "three")
