"""A trial holds git's own directory in other letters."""

from tests.attacks.pushes import nothing, odd_tree
from tests.attacks.victim import Victim

CLAIM = "files that every checkout takes"
WITHOUT = {f"gitresearch.audit.trials.{rule}": nothing for rule in ("_paths", "_edits")}


def attack(victim: Victim) -> None:
    odd_tree(victim, "config", b"[core]\nfsmonitor = true\n", ".GiT")
