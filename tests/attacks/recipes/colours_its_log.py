"""Ends with words that drive a terminal, set its title and read backwards."""

from gitresearch.text import is_safe
from tests.attacks.stage import Recipe, Weak

TRAIN = r"""
print("\x1b]0;all is well\x07\x1b[2J\x1b[1;1H\u202ekeep\u2066")
raise ValueError("\x1b[31mred\x1b[0m \x9b2J \u200bnothing")
"""
RECIPE = Recipe(
    TRAIN, "crash", gained=lambda seen: not is_safe(seen.told.replace("\n", "")),
    weak=Weak(without={"gitresearch.failures.clean": str})
)  # fmt: skip
