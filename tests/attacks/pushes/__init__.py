"""One malicious push a file: what it is in a sentence, what it does to a clone's refs, the claim for whose sake the
gate refuses it, and the rules without which it would pass."""

import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from gitresearch import guard
from tests.attacks.forgeries import nothing
from tests.attacks.victim import NAME, Victim
from tests.build import put_raw

__all__ = ["nothing", "odd_tree", "plain", "weakened"]


def weakened(space: str, moves: Callable[..., Any] | None = None, content: Callable[..., Any] | None = None) -> Any:
    """The gate's rules with one space's taken out: for what happens to a ref, for what it holds, or both."""
    rule = guard.RULES[space]
    return {"gitresearch.guard.RULES": {**guard.RULES, space: (moves or rule[0], content or rule[1])}}


def plain(victim: Victim, files: Mapping[str, str]) -> str:
    """A commit with these files and nothing else, which is no trial."""
    victim.aside("read-tree", "--empty")
    for path, text in files.items():
        blob = victim.aside("hash-object", "-w", "--stdin", given=text.encode())
        victim.aside("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
    return victim.aside("commit-tree", victim.aside("write-tree"), "-m", "not a trial")


def odd_tree(victim: Victim, name: str, data: bytes, folder: str = "") -> None:
    """A trial whose tree has a further row, as no git would write it: a file, in a folder where one is named."""
    command = ["git", "-C", str(victim.top), "cat-file", "tree", "main^{tree}"]
    rows = subprocess.run(command, capture_output=True, check=True).stdout
    row = b"100644 %b\0%b" % (name.encode(), bytes.fromhex(put_raw(victim.repo, "blob", data)))
    if folder:
        row = b"40000 %b\0%b" % (folder.encode(), bytes.fromhex(put_raw(victim.repo, "tree", row)))
    tree = put_raw(victim.repo, "tree", row + rows)
    message = f"a change\n\nStudy: {NAME}\nSpecialist: rate\nOperator: improve"
    oid = victim.git("commit-tree", tree, "-p", "main", "-m", message).strip()
    victim.git("update-ref", f"refs/heads/trial/{NAME}/a-change-{oid[:8]}", oid)
