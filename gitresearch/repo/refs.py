"""Refs: their names, and writing them by git's own protocol.

`<ref>.lock` is made exclusively, the old value is compared under it, and it is renamed into place; so two writers never
overwrite each other, and git's own programs respect us as we respect them. libgit2 reads and deletes; it is not used to
write, because it cannot be told per repository to leave the reflog out (a file a trial) or to sync.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pygit2

from gitresearch.errors import GitResearchError
from gitresearch.repo.objects import discard, make_file, sync_folder, write_all

TRIALS = "refs/heads/trial/"
BEST = "refs/heads/best/"
OUTCOMES = "refs/notes/gitresearch/outcomes/"
PROPOSALS = "refs/notes/gitresearch/proposals/"
STUDIES = "refs/gitresearch/studies/"
CLAIMS = "refs/gitresearch/claims/"
ZERO = "0" * 40
OID = re.compile(r"[0-9a-f]{40}")


class Moved(GitResearchError):
    """The ref does not hold what the writer thought it did."""


class Locked(GitResearchError):
    """Another writer holds the ref's lock file, or a dead one left it. `path` is the lock file."""

    def __init__(self, path: str) -> None:
        super().__init__(f"another git process holds {path}", f"if no git runs here: rm '{path}'")
        self.path = path


class Refs:
    """The refs of one repository."""

    def __init__(self, handle: pygit2.Repository, common_dir: Path, *, durable: bool) -> None:
        self._handle = handle
        self._dir = str(common_dir)
        self._durable = durable

    def get(self, name: str) -> str | None:
        """The oid that a ref holds, None where there is no such ref. Symbolic refs are followed."""
        reference = self._handle.references.get(name)
        return None if reference is None else str(reference.resolve().target)

    def under(self, prefix: str) -> dict[str, str]:
        """Every ref under a prefix with what it holds, by full name.

        Read from the files: libgit2 can only walk all refs, 250 ms where there are 100,000 branches.
        """
        found = {}
        top = f"{self._dir}/{prefix.rstrip('/')}"
        for folder, _, names in os.walk(top):
            for name in names:
                full = os.path.relpath(f"{folder}/{name}", self._dir)
                if not name.endswith(".lock") and full.startswith(prefix) and (oid := self.get(full)):
                    found[full] = oid
        # Packed ones second: a packer writes that file before it deletes the loose ones, so none is missed.
        return dict(sorted({**dict(self._packed_under(prefix)), **found}.items()))

    def _packed_under(self, prefix: str) -> Iterator[tuple[str, str]]:
        """The lines `<oid> <name>` of packed-refs under a prefix; git keeps the file sorted, so they stand together."""
        try:
            data = Path(self._dir, "packed-refs").read_bytes()
        except FileNotFoundError:
            return
        wanted = b" " + prefix.encode()
        at = data.find(wanted)
        while at >= 40:
            end = data.find(b"\n", at)
            oid = data[at - 40 : at].decode("ascii", "replace")
            if OID.fullmatch(oid):
                yield data[at + 1 : end if end >= 0 else len(data)].decode("utf-8", "surrogateescape"), oid
            at = data.find(wanted, end) if end >= 0 else -1

    def create(self, name: str, oid: str) -> None:
        """Make a ref. Moved where it exists with another value; no error where it holds this one already."""
        self.set(name, oid, None)

    def set(self, name: str, oid: str, old: str | None) -> None:
        """Move a ref from `old` (None: it must not exist) to `oid`. Moved where it holds something else; Locked where
        another process is writing it."""
        path = f"{self._dir}/{name}"
        lock = f"{path}.lock"
        handle, made = self._lock(name, lock)
        try:
            try:
                current = self.get(name)
                if current not in (old, oid):
                    raise Moved(f"{name} holds {current or 'nothing'}, not {old or 'nothing'}")
                write_all(handle, oid.encode() + b"\n")
                if self._durable:
                    os.fsync(handle)
            finally:
                os.close(handle)
            self._rename(lock, path)
        except BaseException:
            discard(lock)
            raise
        if self._durable:
            self._sync(os.path.dirname(path), upwards=made)

    def _sync(self, folder: str, *, upwards: bool) -> None:
        """Sync a ref's folder, and those above it where it is new."""
        with contextlib.suppress(FileNotFoundError):  # git has packed and synced its refs meanwhile
            sync_folder(folder)
        if upwards and folder != f"{self._dir}/refs":
            self._sync(os.path.dirname(folder), upwards=True)

    def delete(self, name: str, old: str) -> bool:
        """Delete a ref that holds `old`. False where it holds something else or is gone."""
        reference = self._handle.references.get(name)
        if reference is None or str(reference.target) != old:
            return False
        try:
            reference.delete()
        except (pygit2.GitError, KeyError, OSError) as error:
            # libgit2 raises it for a lock file that is there, in two wordings, for a folder that a packing git took
            # away under its hands, and for a full disk or no permission.
            busy = re.search("failed to lock file|File exists|failed to make directory.*No such file", str(error))
            if isinstance(error, OSError) and not busy:
                raise
            lock = f"{self._dir}/{name}.lock"
            if "lock" in str(error) or busy:
                raise Locked(lock if os.path.exists(lock) else f"{self._dir}/packed-refs.lock") from error
            return False
        return True

    def append_log(self, name: str, old: str | None, oid: str, who: str, reason: str) -> None:
        """Add a line to a ref's reflog, made where it is missing."""
        path = Path(self._dir, "logs", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        line = f"{old or ZERO} {oid} {who}\t{reason}\n".encode()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            write_all(handle, line)
        finally:
            os.close(handle)

    def _lock(self, name: str, lock: str) -> tuple[int, bool]:
        if not os.path.isdir(os.path.dirname(lock)):
            # git cannot hold `a` and `a/b` at once; a folder that is there says that nobody has `a`.
            for part in _prefixes(name):
                if self.get(part) is not None:
                    raise _blocked(part, name)
        try:
            return make_file(lock, 0o666)
        except FileExistsError:
            raise Locked(lock) from None
        except NotADirectoryError:
            taken = next(part for part in _prefixes(name) if os.path.isfile(f"{self._dir}/{part}"))
            raise _blocked(taken, name) from None

    def _rename(self, lock: str, path: str) -> None:
        try:
            os.rename(lock, path)
        except OSError as error:
            # git leaves empty folders behind where a ref below them was packed or deleted.
            if error.errno not in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
                raise
            try:
                for folder, _, _ in os.walk(path, topdown=False):
                    os.rmdir(folder)
            except OSError:
                raise _blocked(path, path) from None
            os.rename(lock, path)


def _prefixes(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:n]) for n in range(3, len(parts))]


def _blocked(taken: str, name: str) -> GitResearchError:
    short = taken.removeprefix("refs/heads/")
    hint = f"git branch -m {short} {short}-old" if taken.startswith("refs/heads/") else f"git update-ref -d {taken}"
    return GitResearchError(f"the ref {taken} stands in the way of {name}", hint)
