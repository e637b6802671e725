"""Who signs the commits, and under which name this clone measures."""

import os
import platform
import re
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

import pygit2

from gitresearch import folders
from gitresearch.errors import GitResearchError
from gitresearch.repo.objects import discard, sync_folder, write_all
from gitresearch.repo.refs import Locked
from gitresearch.signing import Key
from gitresearch.text import clean, slug

EVALUATOR = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,78}[a-z0-9])?")
KEY = "gitresearch.evaluator"
# git ends a name at these; libgit2 would write an unreadable commit for a name with a newline.
_CRUFT = re.compile(r"[<>\n\t]")


def committer(handle: pygit2.Repository) -> str:
    """`Name <mail>` of the user: git's environment, then git's configuration, then a name that says there is none."""
    name = os.environ.get("GIT_COMMITTER_NAME") or _config(handle, "user.name") or "gitresearch"
    mail = os.environ.get("GIT_COMMITTER_EMAIL") or _config(handle, "user.email") or "gitresearch@localhost"
    return f"{_part(name, 'gitresearch')} <{_part(mail, 'gitresearch@localhost')}>"


def specialist_author(specialist: str) -> str:
    """The author of a trial: the specialist, in a form that no person's mailbox has."""
    return f"{specialist} <{specialist}@gitresearch>"


def _part(text: str, fallback: str) -> str:
    return _CRUFT.sub("", clean(text, 200)).strip(" .,:;\"'") or fallback


def _config(handle: pygit2.Repository, key: str) -> str:
    try:
        return str(handle.config[key])
    except KeyError:
        return ""


def read_evaluator(common_dir: Path) -> str | None:
    """The id in the clone's own configuration; a global one would make two clones write one ref."""
    try:
        found = str(pygit2.Config(str(common_dir / "config"))[KEY])
    except KeyError:
        return None
    if not EVALUATOR.fullmatch(found):
        raise GitResearchError(f"the evaluator id {found[:80]!r} is no name for a ref", f"git config --unset {KEY}")
    return found


def key_file(evaluator: str) -> Path:
    """Where the evaluator's private key is kept: outside every repository, for its user alone."""
    return folders.keys() / evaluator


def load_key(evaluator: str) -> Key:
    """The evaluator's key. FileNotFoundError where it is not on this machine."""
    return Key.load(key_file(evaluator))


def make_key(evaluator: str) -> Key:
    """A new key for an evaluator, safe on disk before anything is signed: without it nobody may go on with those notes.
    FileExistsError where there is one."""
    path = key_file(evaluator)
    made = Key.make(path)
    for folder in path.parents[:4]:  # up to the one that holds ~/.config, since that may be new as well
        with suppress(PermissionError):
            sync_folder(str(folder))
    return made


def name_evaluator(who: str) -> str:
    """A new id, `<user>-<host>-<4 hex digits>`, and its key, which no other clone of this user has."""
    while True:
        made = f"{slug(who, 24)}-{slug(platform.node(), 24)}-{secrets.token_hex(2)}"
        with suppress(FileExistsError):
            make_key(made)
            return made


def keep_evaluator(common_dir: Path, evaluator: str) -> None:
    """Write the id to the clone's configuration. Locked where another program is writing there.

    libgit2 edits a copy: it syncs no configuration, and a power cut would leave the user's own empty.
    """
    path, lock = common_dir / "config", f"{common_dir}/config.lock"
    try:
        handle = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, path.stat().st_mode & 0o777)
    except FileExistsError:
        raise Locked(lock) from None
    try:
        try:
            write_all(handle, _edited(path.read_bytes(), evaluator))
            os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(lock, path)
    except BaseException:
        discard(lock)
        raise
    sync_folder(str(common_dir))


def _edited(config: bytes, evaluator: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "config"
        copy.write_bytes(config)
        pygit2.Config(str(copy))[KEY] = evaluator
        return copy.read_bytes()
