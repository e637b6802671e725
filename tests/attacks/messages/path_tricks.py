"""An answer writes outside of its files: upwards, absolutely, into git's own directory in any spelling."""

from gitresearch.answers import EditError
from tests.attacks.table import Table, answer, edits

PATHS = ("../evil.py", "a/../../evil.py", ".git/hooks/post-checkout", ".GIT/config", "a/.git/config", "git~1/config",
         "/etc/cron.d/evil", "a//b.py", "./.gitattributes", "C:\\evil.py")  # fmt: skip
WITHOUT = {"gitresearch.edit.safe_path": lambda _: True, "gitresearch.surface.safe_path": lambda _: True}


def attack(table: Table) -> bool:
    written = set()
    for path in PATHS:
        try:
            written |= edits(answer(path, "x = 1")).keys()
        except EditError:
            continue
    return bool(written)
