"""An answer's code holds characters that nobody sees, so that it runs otherwise than it reads."""

from tests.attacks.table import Table, answer, edits

WITHOUT = {"gitresearch.edit.is_safe": lambda _text: True}


def attack(table: Table) -> bool:
    return bool(edits(answer(text="LR = 0.1 # \u202e } \u2066 if safe:\u2069 \u2066")))
