"""A failed trial's log drives the terminal of whoever prints the brief."""

from gitresearch.text import is_safe
from tests.attacks.table import Table

WITHOUT = {"gitresearch.text.clean": lambda text, *_: text, "gitresearch.outcome.one_line": lambda text, *_: "x"}


def attack(table: Table) -> bool:
    return not is_safe(table.brief_after("\x1b]0;all is well\x07\x1b[2J").replace("\n", ""))
