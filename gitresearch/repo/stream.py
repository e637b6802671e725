"""Reading many objects: loose ones here, packed ones by `git cat-file` beside us.

libgit2 unpacks 100,000 commits and notes in 2 s and holds the interpreter meanwhile. A child of git's does it on
another core while this process parses, which makes reading as fast as `git log`. Loose objects are the other way
round: git searches every pack first and needs 90 µs each; opening the file and inflating it takes 12.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import pygit2

from gitresearch.errors import GitResearchError
from gitresearch.repo.child import command, environment
from gitresearch.repo.objects import read_loose

FEW = 400  # below this a child costs more than it gains


class Source:
    """The objects of one repository."""

    def __init__(self, odb: pygit2.Odb, git_dir: Path, objects: Path) -> None:
        self._odb = odb
        self._git_dir = git_dir
        self._objects = str(objects)

    def stream(self, oids: Sequence[str]) -> Iterator[bytes | None]:
        """The bytes of each object, in the order asked for; None for one that is missing or broken."""
        if len(oids) < FEW:
            return map(self.read, oids)
        loose = self._loose(set(oids))
        packed = [oid for oid in oids if oid not in loose] if loose else oids
        child = self._child(packed) if len(packed) >= FEW else map(self.read, packed)
        return self._mixed(oids, loose, child) if loose else child

    def read(self, oid: str) -> bytes | None:
        """One object's bytes, None where it is missing or broken."""
        try:
            data: bytes = self._odb.read(oid)[1]
        except (KeyError, pygit2.GitError, ValueError):
            return None
        return data

    def _mixed(self, oids: Sequence[str], loose: set[str], rest: Iterator[bytes | None]) -> Iterator[bytes | None]:
        objects = self._objects
        for oid in oids:
            if oid not in loose:
                yield next(rest)
                continue
            try:
                yield read_loose(f"{objects}/{oid[:2]}/{oid[2:]}")[1]
            except (OSError, GitResearchError):
                yield self.read(oid)  # packed meanwhile, or broken

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

    def _child(self, oids: Sequence[str]) -> Iterator[bytes | None]:
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
                bufsize=1 << 18,
            )
        return self._answers(oids, child)

    def _answers(self, oids: Sequence[str], child: subprocess.Popen[bytes]) -> Iterator[bytes | None]:
        output: IO[bytes] = child.stdout  # type: ignore[assignment]
        readline, read = output.readline, output.read
        try:
            for oid in oids:
                head = readline()
                kind, _, size = head.rpartition(b" ")
                if not kind or size == b"missing\n":
                    yield self.read(oid)
                    continue
                data = read(int(size) + 1)
                yield data[:-1]
        finally:
            output.close()
            child.kill()
            child.wait()
