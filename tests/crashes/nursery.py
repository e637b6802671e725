"""Running sessions under strace: recorded, or struck at a chosen system call."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Every call of those that change a file system which the session, libgit2 or git could make.
CHANGING = (
    "openat,creat,write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,"
    "unlinkat,mkdir,mkdirat,rmdir,flock,fcntl,ftruncate,truncate,fallocate,copy_file_range,sendfile,close"
)
_CALL = re.compile(r"(?P<tid>\d+) +(?P<name>\w+)\((?P<words>.*)\) += (?P<value>-?\d+)(?:<(?P<opened>[^>]*)>)?")
_WORD = re.compile(r'"((?:\\x[0-9a-f]{2})*)"|\d+<((?:\\x[0-9a-f]{2})*)>')
WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")


@dataclass(frozen=True)
class Call:
    """A system call as strace saw it: its number among those of its name, the paths and bytes it names, whether it
    opened a file for writing."""

    name: str
    number: int
    strings: tuple[bytes, ...]
    writing: bool = False
    failed: bool = False
    position: int = -1

    @property
    def path(self) -> bytes:
        return self.strings[0] if self.strings else b""


@dataclass
class Said:
    """What a child said before it ended: the trials and the outcomes (with their number of good runs) that it was
    promised, and its exit status; a kill's is -9."""

    code: int
    trials: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def hear(self, line: str) -> None:
        word, *rest = line.split()
        if word == "trial":
            self.trials.append(rest[0])
        elif word == "outcome":
            self.outcomes[rest[0]] = int(rest[1])
        else:
            self.words.append(line)


class Nursery:
    """A process with everything imported, of which children are forked: 10 ms each, where a new Python takes 300."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.crashes.session"]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env, cwd=ROOT, text=True, bufsize=1)

    def run(self, top: Path, *strace: str, durable: bool = True) -> Said:
        """A child that works on a world, under strace with these options from its first step on."""
        self._send(f"{top} {'durable' if durable else 'quick'}\n")
        pid = self._read().removeprefix("pid ")
        tracer = subprocess.Popen(["strace", "-qq", *strace, "-p", pid], stderr=subprocess.PIPE, text=True)
        while f"TracerPid:\t{tracer.pid}" not in Path(f"/proc/{pid}/status").read_text():
            if tracer.poll() is not None:
                self.close()
                raise AssertionError(f"strace can't take hold of a process here: {tracer.communicate()[1]}")
            time.sleep(0.001)
        self._send("g")
        said = Said(0)
        while not (line := self._read()).startswith("ended "):
            said.hear(line)
        tracer.communicate(timeout=30)
        said.code = os.waitstatus_to_exitcode(int(line.split()[1]))
        return said

    def _send(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the nursery is gone"
        return line.rstrip("\n")

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def traced(nursery: Nursery, top: Path, trace: Path, *, durable: bool = True) -> list[Call]:
    """Every changing call of an uninterrupted session, in order."""
    options = ("-f", "-y", "-xx", "-s", "16777216", f"--trace={CHANGING}", "-o", str(trace))
    said = nursery.run(top, *options, durable=durable)
    assert said.code == 0, said
    return list(read_trace(trace))


def read_trace(trace: Path) -> Iterator[Call]:
    counts: dict[str, int] = {}
    threads = set()
    for line in trace.read_text("ascii").splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        threads.add(found["tid"])
        name = found["name"]
        counts[name] = counts.get(name, 0) + 1
        strings = [bytes.fromhex((a or b).replace("\\x", "")) for a, b in _WORD.findall(found["words"])]
        failed = found["value"].startswith("-")
        if name == "openat" and found["opened"]:
            strings = [bytes.fromhex(found["opened"].replace("\\x", ""))]
        place = re.search(r", (\d+)$", found["words"])
        position = int(place[1]) if name in ("pwrite64", "ftruncate") and place else -1
        yield Call(name, counts[name], tuple(strings), bool(WRITING.search(found["words"])), failed, position)
    assert len(threads) == 1, "the session's calls are numbered by thread, and it has one"


def copy(snapshot: Path, to: Path) -> Path:
    """A world of its own for one crash."""
    return Path(shutil.copytree(snapshot, to, symlinks=True))
