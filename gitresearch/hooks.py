"""The evaluator hook: a trusted program from the study's base commit, spoken to in JSON.

`python -I hook.py VERB`, one request on stdin, one reply on stdout. It runs outside every sandbox and never in a
trial's folder; its files come out of git blobs of the base commit, so a trial can't change its own ruler. Whatever it
does wrong (exit status, rubbish, no answer in time) is a HookFault: ours, never the trial's.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from gitresearch.errors import GitResearchError
from gitresearch.failures import last_lines
from gitresearch.sandbox import until_ended

MAX_REPLY_BYTES = 1 << 20
POLL_SECONDS = 0.2


class HookFault(GitResearchError):
    """The hook failed by itself: a fault of the harness, with its last words."""

    def __init__(self, message: str, lines: Sequence[str] = ()) -> None:
        super().__init__(message, "mend the hook, commit it, and begin a study under a new name")
        self.lines = tuple(lines)


def _environment() -> dict[str, str]:
    """Ours, with the folders of data that it names as seen from where the user is: the hook runs elsewhere."""
    named = {name: value for name, value in os.environ.items() if name.startswith("GITRESEARCH_DATA_") and value}
    return {**os.environ, **{name: os.path.abspath(value) for name, value in named.items()}}


class _Popen(subprocess.Popen[bytes]):
    """`communicate` waits with a time limit by polling, 8 ms for an interpreter that takes 3 to end."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, as ever; TimeoutExpired where there is none yet."""
        if timeout is not None and self.returncode is None:
            until_ended(self.pid, timeout, 0.0)
        return super().wait(timeout)


class Hook:
    """One hook's files, exported. `digest` names their bytes."""

    def __init__(
        self, program: Path, settings: Mapping[str, Any], seconds: float, python: str = sys.executable
    ) -> None:
        self.program, self.settings, self.seconds, self.python = program, dict(settings), seconds, python
        self.digest = folder_digest(program.parent)
        self._spares: dict[str, list[subprocess.Popen[bytes]]] = {}

    def call(self, verb: str, request: Mapping[str, Any], cancel: threading.Event | None = None) -> dict[str, Any]:
        """One verb's reply."""
        try:
            process = self._spares[verb].pop()
        except (KeyError, IndexError):
            process = self.start(verb)
        return self.finish(process, verb, request, cancel=cancel)

    def warm(self, verb: str) -> None:
        """Start a process for the next call of a verb now: it waits for its request while a trial trains, so that its
        interpreter's start (20 to 50 ms) is not waited for later. One that is never asked ends when we do."""
        spares = self._spares.setdefault(verb, [])
        if not spares:
            spares.append(self.start(verb))

    def close(self) -> None:
        """End the processes that were started and never asked."""
        for spares in self._spares.values():
            while spares:
                drop(spares.pop())

    def start(self, verb: str, handles: Sequence[int] = (), *, aloud: bool = False) -> subprocess.Popen[bytes]:
        """Start a verb. `handles` are descriptors the hook inherits under their numbers, closed here afterwards;
        `aloud`: its stderr is ours."""
        try:
            return _Popen(
                [self.python, "-I", str(self.program), verb], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=None if aloud else subprocess.PIPE, pass_fds=tuple(handles), cwd=self.program.parent,
                start_new_session=True, env=_environment(),
            )  # fmt: skip
        except OSError as error:
            raise HookFault(f"the hook does not start: {error.strerror}") from None
        finally:
            for handle in handles:
                os.close(handle)

    def finish(
        self, process: subprocess.Popen[bytes], verb: str, request: Mapping[str, Any], more_seconds: float = 0.0,
        cancel: threading.Event | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Send the request, wait for the reply. Setting `cancel` ends the hook: a HookFault too."""
        asked = json.dumps({**request, "settings": self.settings}).encode()
        # Not by `communicate`: what it has not written when its time is up it never writes (Python 3.11). On a busy
        # machine that is all of it, and the hook waits until we give up.
        given, process.stdin = process.stdin, None
        threading.Thread(target=_send, args=(given, asked), daemon=True).start()
        seconds = self.seconds + more_seconds
        deadline = time.monotonic() + seconds
        while True:
            try:
                out, err = process.communicate(timeout=min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))
                break
            except subprocess.TimeoutExpired:
                why = "was cancelled" if cancel is not None and cancel.is_set() else f"gave no answer in {seconds:g} s"
                if why == "was cancelled" or time.monotonic() >= deadline:
                    raise HookFault(f"the hook's {verb} {why}", last_lines(drop(process))) from None
            except BaseException:  # ^C while we wait: nothing is left running
                drop(process)
                raise
        if process.returncode:
            words = last_lines(err or b"")
            told = words[-1] if words else f"exit status {process.returncode}"
            raise HookFault(f"the hook's {verb} failed: {told}", words)
        return strict_reply(out, verb, last_lines(err or b""))


def _send(pipe: IO[bytes], request: bytes) -> None:
    """Write a request and close its pipe; a hook that is gone is told elsewhere."""
    with suppress(OSError), pipe:
        pipe.write(request)


class Scoring:
    """The hook's score process, started before training so that it is ready after it, and its pipes to a predictor."""

    def __init__(self, hook: Hook, *, pipes: bool) -> None:
        self._hook = hook
        self.trial_in = self.trial_out = -1
        self._request: dict[str, int] = {}
        if pipes:
            self.trial_in, to_trial = os.pipe()
            from_trial, self.trial_out = os.pipe()
            self._request = {"to_trial": to_trial, "from_trial": from_trial}
        self._process: Any = hook.start("score", tuple(self._request.values()))

    def __enter__(self) -> "Scoring":
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        if self._process is not None:
            drop(self._process)

    def hang_up(self) -> None:
        """Close our copies of the predictor's ends: it has its own, and the hook must see when it is gone."""
        for handle in (self.trial_in, self.trial_out):
            if handle >= 0:
                os.close(handle)
        self.trial_in = self.trial_out = -1

    def ask(
        self, request: Mapping[str, Any], more_seconds: float, cancel: threading.Event | None = None
    ) -> dict[str, Any]:
        """The reply; HookFault where there is none."""
        process, self._process = self._process, None
        return self._hook.finish(process, "score", {**request, **self._request}, more_seconds, cancel)


def drop(process: subprocess.Popen[bytes]) -> bytes:
    """End a hook that was started and is not needed, and what it started; what it had printed on stderr."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.communicate(timeout=2.0)[1] or b""
    except subprocess.TimeoutExpired:  # something in a session of its own holds the pipes
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        return b""


def strict_reply(out: bytes, verb: str, words: Sequence[str] = ()) -> dict[str, Any]:
    """One JSON object with unique keys and finite numbers; HookFault otherwise."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def finite(word: str) -> float:
        value = float(word)
        if not abs(value) < float("inf"):
            raise ValueError(f"{word} is not finite")
        return value

    def whole(word: str) -> int:
        if len(word) > 20 or not abs(int(word)) < 1 << 63:
            raise ValueError(f"{word[:20]} has more than 63 bits")
        return int(word)

    try:
        if len(out) > MAX_REPLY_BYTES:
            raise ValueError(f"longer than {MAX_REPLY_BYTES} bytes")
        reply = json.loads(out, object_pairs_hook=unique, parse_float=finite, parse_constant=finite, parse_int=whole)
        if not isinstance(reply, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        raise HookFault(f"the hook's {verb} printed no reply we can read: {str(error)[:120]}", words) from None
    return reply


def files_digest(files: Mapping[str, bytes]) -> str:
    """sha256 over the relative names and bytes of a hook's files."""
    digest = hashlib.sha256()
    for path, data in sorted(files.items()):
        digest.update(f"{path}\0{len(data)}\0".encode() + data)
    return f"sha256:{digest.hexdigest()}"


def folder_digest(folder: Path) -> str:
    """The same of files that were written out."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return files_digest({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})


def export_hook(export: Callable[[str, str, Path], None], base: str, path: str, dest: Path) -> Path:
    """The hook's folder out of the base commit's blobs, in `dest`; the program's path. Made anew by each process: what
    lies in a cache could have been changed by anybody since."""
    folder, _, name = path.rpartition("/")
    export(base, folder, dest)
    program = dest / name
    if not program.is_file():
        raise GitResearchError(f"the hook {path} is not in commit {base[:8]}", "edit evaluator.hook in study.toml")
    return program
