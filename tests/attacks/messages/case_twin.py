"""A trial adds a file whose name differs from another's in case alone, so that what runs depends on the disk."""

from tests.attacks.table import Table
from tests.build import add_trial, git

WITHOUT = {"gitresearch.repo.trees._refuse_twin": lambda *_: None}


def attack(table: Table) -> bool:
    trial = add_trial(table.repo, "look again", [table.baseline], {"Train.py": b"LR = 9\n"})
    return "Train.py" in git(table.repo, "ls-tree", "--name-only", trial.oid)
