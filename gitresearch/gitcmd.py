"""The git program, for what libgit2 does badly or not at all: transport and ref transactions.

Every call names the git directory, so no file in a directory that an agent can write decides what git does. What git
says on stderr goes on to `say` as it comes, cleaned and without passwords; what it fails with becomes one sentence and
the command to type. Prompts are git's own: a person at a terminal can still be asked for a password.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gitresearch.errors import GitResearchError
from gitresearch.text import clean, one_line

Say = Callable[[str], None]

# Set by git for hooks and aliases; each would make git work on another repository than the one named.
_OTHERS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY",
           "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_SHALLOW_FILE", "GIT_CONFIG")  # fmt: skip
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
_NO_ACCESS = re.compile(
    r"could not read (Username|Password)|Authentication failed|Permission denied \(|terminal prompts disabled"
    r"|returned error: 40[13]|access denied|Invalid username or|Host key verification failed",
    re.IGNORECASE,
)
_NOT_THERE = re.compile(
    r"Could not resolve|Connection (refused|timed out|reset)|unable to (access|connect|look up)|not found|No route to"
    r"|does not appear to be a git repository|Could not read from remote|does not exist|no such repository|hung up"
    r"|not exported|is not a valid repository|RPC failed",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Said:
    """How a git command ended: exit status, stdout, and stderr as it was passed on."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The line that says what is wrong: git's first `fatal:` or `error:`, else its last words."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        found = [line for line in lines if re.match(r"(fatal|error|ERROR):", line)]
        told = found[0] if found else lines[-1] if lines else f"git ended with status {self.code}"
        return one_line(re.sub(r"^(fatal|error|ERROR): ", "", told))


def to_stderr(line: str) -> None:
    """Pass a line on to the person; the default `say`."""
    sys.stderr.write(line + "\n")


def without_password(text: str) -> str:
    """The text with the user and password of every URL taken out."""
    return _PASSWORD.sub("", text)


@dataclass(frozen=True, slots=True)
class Git:
    """Git commands on one repository; without `git_dir`, commands that need none (clone, ls-remote of a URL)."""

    git_dir: Path | None
    cwd: Path
    say: Say = to_stderr

    def talk(self, *args: str, lines: Iterable[str] = ()) -> Said:
        """Run a command that may ask, wait and talk, with `lines` on its stdin: its stderr goes on line by line."""
        heard: list[str] = []
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as given:
            given.write(_bytes(lines))
            given.seek(0)
            with self._start(args, given.fileno(), out.fileno()) as process:
                for raw in process.stderr or ():
                    line = without_password(clean(raw.decode("utf-8", "replace"))).rstrip()
                    if line:
                        heard.append(line)
                        self.say(line)
            out.seek(0)
            return Said(process.returncode, out.read().decode("utf-8", "surrogateescape"), "\n".join(heard))

    def ask(self, *args: str, lines: Iterable[str] = ()) -> Said:
        """Run a local command that stays quiet, with `lines` on its stdin."""
        try:
            done = subprocess.run(
                self._argv(args),
                input=_bytes(lines),
                capture_output=True,
                cwd=self.cwd,
                env=_environment(),
                check=False,
            )
        except FileNotFoundError:
            raise _missing(self.cwd) from None
        err = without_password(clean(done.stderr.decode("utf-8", "replace")))
        return Said(done.returncode, done.stdout.decode("utf-8", "surrogateescape"), err)

    def get(self, *args: str, lines: Iterable[str] = ()) -> str:
        """A quiet command's stdout; GitResearchError where it fails."""
        said = self.ask(*args, lines=lines)
        if said.code:
            raise GitResearchError(f"git {args[0]} failed: {said.complaint}", "git fsck")
        return said.out

    def _argv(self, args: Iterable[str]) -> list[str]:
        where = [f"--git-dir={self.git_dir}"] if self.git_dir else []
        return ["git", *where, *args]

    def _start(self, args: Iterable[str], given: int, out: int) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                self._argv(args),
                stdin=given,
                stdout=out,
                stderr=subprocess.PIPE,
                cwd=self.cwd,
                env=_environment(),
            )
        except FileNotFoundError:
            raise _missing(self.cwd) from None


def explain(said: Said, remote: str) -> GitResearchError:
    """What a failed transport means, and the command to type. `remote` is a remote's name or a URL."""
    if _NO_ACCESS.search(said.err):
        return GitResearchError(f"{remote} denies access: {said.complaint}", f"git ls-remote {remote}")
    if _NOT_THERE.search(said.err):
        mend = f"git ls-remote {remote}" if _is_place(remote) else f"git remote set-url {remote} URL"
        return GitResearchError(f"{remote} can't be reached: {said.complaint}", mend)
    return GitResearchError(f"git failed on {remote}: {said.complaint}", f"git ls-remote {remote}")


def _bytes(lines: Iterable[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")


def _is_place(remote: str) -> bool:
    return "/" in remote or ":" in remote


def _environment() -> dict[str, str]:
    """The person's environment, in English (failures are told apart by their words), on no other repository."""
    return {**{key: value for key, value in os.environ.items() if key not in _OTHERS}, "LC_ALL": "C", "LANGUAGE": "C"}


def _missing(cwd: Path) -> GitResearchError:
    if not cwd.is_dir():
        return GitResearchError(f"{cwd} is no directory", f"mkdir -p {cwd}")
    return GitResearchError("the git program is not installed or not on PATH", "git --version")
