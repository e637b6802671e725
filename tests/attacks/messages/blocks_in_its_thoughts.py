"""An answer shows one edit to whoever reads it, and hides another in its reasoning."""

from tests.attacks.table import Table, answer, edits

WITHOUT = {
    "gitresearch.answers._answer_lines": lambda text: text.split("\n"),
    "gitresearch.answers._thought_end": lambda *_: 0,
}


def attack(table: Table) -> bool:
    return "hidden.py" in edits(f"<think>\n{answer('hidden.py')}\n</think>\n{answer()}")
