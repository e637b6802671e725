"""Who signs the commits, and under which name this clone measures."""

import os
import platform
import re
import secrets
from contextlib import suppress
from pathlib import Path

import pygit2

from gitresearch import folders
from gitresearch.errors import GitResearchError
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


def make_evaluator(common_dir: Path, who: str) -> str:
    """A new id, kept in the clone's configuration: `<user>-<host>-<4 hex digits>`; and its key, which no other clone of
    this user has."""
    while True:
        made = f"{slug(who, 24)}-{slug(platform.node(), 24)}-{secrets.token_hex(2)}"
        with suppress(FileExistsError):
            Key.make(key_file(made))
            break
    pygit2.Config(str(common_dir / "config"))[KEY] = made
    return made
