"""A trial holds a file above the repository's root."""

from tests.attacks.pushes import nothing, odd_tree
from tests.attacks.victim import Victim

CLAIM = "files that every checkout takes"
WITHOUT = {f"gitresearch.audit.trials.{rule}": nothing for rule in ("_paths", "_edits")}


def attack(victim: Victim) -> None:
    odd_tree(victim, "evil.py", b"pass\n", "..")
