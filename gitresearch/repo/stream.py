"""Reading many objects: loose ones here, packed ones by `git cat-file` beside us.

libgit2 unpacks 100,000 commits and notes in 2 s and holds the interpreter meanwhile. A child of git's does it on
another core while this process parses, which makes reading as fast as `git log`. Loose objects are the other way
round: git searches every pack first and needs 90 µs each; opening the file and inflating it takes 12.
"""

import contextlib
import fcntl
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import IO

import pygit2

from gitresearch.errors import GitResearchError
from gitresearch.repo.child import command, environment
from gitresearch.repo.objects import read_loose

# An object's bytes are text[start:end] as Latin-1, a character a byte: a regular expression then gives strings at once.
Span = tuple[str, int, int]
MISSING: Span = ("", 0, -1)  # no object, or a broken one
CHUNK_BYTES = 1 << 20
AHEAD = 64  # chunks that a child may be ahead
_ANSWER = re.compile(r"[0-9a-f]{40} (?:[a-z]+ ([0-9]+)|missing)\n")
SAMPLE = "17"
FEW = 400  # below this a child costs more than it gains


def loose_objects(objects: Path | str) -> int:
    """About how many objects are loose, as `git gc --auto` reckons it: from one of the 256 folders."""
    try:
        return 256 * len(os.listdir(f"{objects}/{SAMPLE}"))
    except FileNotFoundError:
        return 0


class Plain:
    """The usual shape of an object: an expression without a group of its own for the answer's head, whose size becomes
    the first group. `whole` says whether it covers the object to its end."""

    def __init__(self, expression: str, *, whole: bool) -> None:
        self.expression = re.compile(rf"[0-9a-f]{{40}} [a-z]+ ([0-9]+)\n{expression}" + ("\n" if whole else ""))
        self.whole = whole


class Source:
    """The objects of one repository."""

    def __init__(self, odb: pygit2.Odb, git_dir: Path, objects: Path) -> None:
        self._odb = odb
        self._git_dir = git_dir
        self._objects = str(objects)

    def stream(self, oids: Sequence[str], plain: Plain) -> Iterator[Span | re.Match[str]]:
        """Each object in the order asked for: what the plain expression matched, or else where its bytes lie."""
        if len(oids) < FEW:
            return map(self._span, oids)
        if loose_objects(self._objects) > len(oids):
            return map(self._loose_span, oids)
        loose = self._loose(set(oids))
        packed = [oid for oid in oids if oid not in loose] if loose else oids
        child = self._child(packed, plain) if len(packed) >= FEW else map(self._span, packed)
        return self._mixed(oids, loose, child) if loose else child

    def _span(self, oid: str) -> Span:
        raw = self.read(oid)
        return MISSING if raw is None else (raw.decode("latin-1"), 0, len(raw))

    def read(self, oid: str) -> bytes | None:
        """One object's bytes, None where it is missing or broken."""
        try:
            data: bytes = self._odb.read(oid)[1]
        except (KeyError, pygit2.GitError, ValueError):
            return None
        return data

    def _loose_span(self, oid: str) -> Span:
        try:
            raw = read_loose(f"{self._objects}/{oid[:2]}/{oid[2:]}")[1]
        except (OSError, GitResearchError):
            return self._span(oid)  # packed, perhaps meanwhile, or broken
        return raw.decode("latin-1"), 0, len(raw)

    def _mixed(
        self, oids: Sequence[str], loose: set[str], rest: Iterator[Span | re.Match[str]]
    ) -> Iterator[Span | re.Match[str]]:
        for oid in oids:
            yield self._loose_span(oid) if oid in loose else next(rest)

    def _loose(self, wanted: set[str]) -> set[str]:
        """Those of the wanted that are loose: 256 folders are listed rather than 200,000 files looked for."""
        found: set[str] = set()
        for number in range(256):
            prefix = f"{number:02x}"
            try:
                names = os.listdir(f"{self._objects}/{prefix}")
            except FileNotFoundError:
                continue
            found.update(wanted.intersection([prefix + name for name in names]))
        return found

    def _child(self, oids: Sequence[str], plain: Plain) -> Iterator[Span | re.Match[str]]:
        """What `git cat-file --batch` prints. Its questions come from a file: a pipe would need a thread to fill it."""
        # The hash of an object is not checked here, as in git log; `audit` does that.
        with tempfile.TemporaryFile() as questions:
            questions.write("\n".join(oids).encode() + b"\n")
            questions.seek(0)
            child = subprocess.Popen(
                command(self._git_dir, "cat-file", "--batch", "--buffer"),
                env=environment(),
                stdin=questions,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        return self._answers(oids, child, plain)

    def _answers(
        self, oids: Sequence[str], child: subprocess.Popen[bytes], plain: Plain
    ) -> Iterator[Span | re.Match[str]]:
        chunks: Queue[str] = Queue(AHEAD)
        pump = threading.Thread(target=_pump, args=(child, chunks), daemon=True)
        pump.start()
        text, at = "", 0
        match, whole = plain.expression.match, plain.whole
        try:
            for oid in oids:
                found = match(text, at)
                if found:  # the size that git tells must agree, so nothing inside an object passes for another one
                    stop = found.end(1) + int(found[1]) + 2
                    if found.end() == stop or (not whole and found.end() < stop <= len(text)):
                        at = stop
                        yield found
                        continue
                while not (head := _ANSWER.match(text, at)) or len(text) <= head.end() + int(head[1] or 0):
                    more = chunks.get()
                    if not more:
                        raise GitResearchError("git cat-file ended early", "git fsck")
                    text, at = text[at:] + more, 0
                start = head.end()
                if head[1] is None:
                    at = start
                    yield self._span(oid)
                    continue
                at = start + int(head[1]) + 1
                yield text, start, at - 1
        finally:
            child.kill()
            while pump.is_alive():
                with contextlib.suppress(Empty):
                    chunks.get(timeout=0.01)
            child.wait()


def _pump(child: subprocess.Popen[bytes], chunks: "Queue[str]") -> None:
    """Take what the child prints off its hands, so that it works ahead while this process parses."""
    output: IO[bytes] = child.stdout  # type: ignore[assignment]
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
    with output:
        while more := output.read(CHUNK_BYTES):
            chunks.put(more.decode("latin-1"))
    chunks.put("")
