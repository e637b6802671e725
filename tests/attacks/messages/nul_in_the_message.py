"""A hypothesis holds a NUL, behind which git and its libraries see nothing of a message."""

from gitresearch.trial import Hypothesis
from tests.attacks.table import Table
from tests.build import git

WITHOUT = {"gitresearch.trial.require_safe": lambda text, *_: text, "gitresearch.trial.clean": lambda text, *_: text}


def attack(table: Table) -> bool:
    told = Hypothesis.from_text("raise the rate", "It\0learns", study="demo", specialist="optimizer")
    trial = table.repo.make_trial(told, [table.baseline.oid], {"train.py": b"LR = 0.2\n"})
    return "Specialist: " not in git(table.repo, "log", "-1", "--format=%B", trial.oid)
