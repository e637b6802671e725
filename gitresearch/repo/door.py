"""The door to pygit2: opening a repository, and turning whatever libgit2 or the system raises into our one error."""

import errno
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import pygit2

from gitresearch.errors import GitResearchError
from gitresearch.text import one_line, printable

P = ParamSpec("P")
T = TypeVar("T")

_SYSTEM = {
    errno.ENOSPC: ("the disk is full; nothing that was written before is lost", "df -h ."),
    errno.EDQUOT: ("the disk quota is used up; nothing that was written before is lost", "quota -s"),
    errno.EROFS: ("the repository is on a read-only file system", "mount | grep ' ro'"),
    errno.EMFILE: ("too many files are open", "ulimit -n 4096"),
}


def discover(path: Path) -> str:
    """The git directory that `path` lies in. GitResearchError where there is none."""
    if not path.exists():
        raise GitResearchError(f"no such directory: {printable(str(path))}")
    with errors("open the repository"):
        found: str | None = pygit2.discover_repository(str(path))
    if found is None:
        raise GitResearchError(f"not inside a git repository: {printable(str(path))}", "git init")
    return found


def guarded(what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a verb of the store: what it raises is a GitResearchError that starts with `cannot <what>`."""

    def wrap(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def guard(*args: P.args, **kwargs: P.kwargs) -> T:
            with errors(what):
                return function(*args, **kwargs)

        return guard

    return wrap


@contextmanager
def errors(what: str) -> Iterator[None]:
    """Nothing of libgit2 or the system leaves this block as it is."""
    try:
        yield
    except GitResearchError:
        raise
    except OSError as error:
        raise _from_system(what, error) from error
    except KeyError as error:
        named = printable(str(error.args[0]) if error.args else "")
        raise GitResearchError(f"cannot {what}: the repository lacks {named}", "git fsck") from error
    except pygit2.GitError as error:
        raise _from_libgit2(what, str(error)) from error
    except ValueError as error:
        raise _from_libgit2(what, str(error)) from error


def _from_system(what: str, error: OSError) -> GitResearchError:
    if error.errno in _SYSTEM:
        why, hint = _SYSTEM[error.errno]
        return GitResearchError(f"cannot {what}: {why}", hint)
    name = printable(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else ""
    why = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return GitResearchError(f"cannot {what}: no permission to write {name}", f"ls -ld {name}" if name else "id")
    return GitResearchError(f"cannot {what}: {why}{': ' + name if name else ''}")


# What libgit2 says, what a person needs to know, and the command to type.
_LIBGIT2 = (
    ("no space left", "the disk is full; nothing that was written before is lost", "df -h ."),
    ("read-only file system", "the repository is on a read-only file system", "mount | grep ' ro'"),
    ("permission denied", "no permission to write in the git directory", "ls -ld .git .git/refs .git/objects"),
    ("not owned by current user", "another user owns this repository", "git config --global --add safe.directory '*'"),
    ("objectformat", "this repository uses SHA-256, which libgit2 cannot read", "git init --object-format=sha1"),
    ("unsupported extension", "this repository uses a git extension that libgit2 cannot read (reftable, SHA-256 or a "
     "partial clone)", "git clone --ref-format=files --no-filter"),
)  # fmt: skip


def _from_libgit2(what: str, said: str) -> GitResearchError:
    for sign, why, hint in _LIBGIT2:
        if sign in said.lower():
            return GitResearchError(f"cannot {what}: {why}", hint)
    return GitResearchError(f"cannot {what}: {one_line(printable(said), 200)}", "git fsck")
