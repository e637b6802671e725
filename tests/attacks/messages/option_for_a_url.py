"""A URL to clone from is an option of git's that runs a program."""

from contextlib import suppress

from gitresearch import sync
from gitresearch.errors import GitResearchError
from gitresearch.gitcmd import Git
from tests.attacks.table import Table


def without_dashes(self: Git, args: tuple[str, ...]) -> list[str]:
    """A command in which a stranger's word may be an option."""
    return ["git", *(word for word in args if word != "--")]


WITHOUT = {"gitresearch.sync._require_plain": lambda _: None, "gitresearch.gitcmd.Git._argv": without_dashes}


def attack(table: Table) -> bool:
    table.top.mkdir()
    planted = table.top / "planted"
    with suppress(GitResearchError):
        sync.clone(f"--upload-pack=touch {planted};", table.top / "clone", lambda _line: None)
    return planted.exists()
