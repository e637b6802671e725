"""An answer edits the study, its hook and the list of those whose outcomes are taken, beside its own file."""

from tests.attacks.table import Table, answer

FILES = ("study.toml", "hook.py", "allowed_signers")
WITHOUT = {"gitresearch.surface.Surface.violations": lambda *_: []}


def attack(table: Table) -> bool:
    block = "\n{}\n<<<<<<< FILE\nx = 1\n>>>>>>> FILE\n"
    found = table.proposal(answer() + "".join(block.format(path) for path in FILES)).edits
    return any(path in found for path in FILES)
