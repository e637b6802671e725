"""An outcome is moved to where no reader of notes looks, as if it had only moved."""

from gitresearch.repo.objects import TREE_MODE, Entry, parse_tree, print_tree
from tests.attacks.victim import Victim
from tests.build import put_raw

CLAIM = "one place for a note"
WITHOUT = {"gitresearch.audit.notes._misplaced": lambda _link: ()}


def attack(victim: Victim) -> None:
    oid = victim.trial("crash")
    tip = victim.git("rev-parse", victim.ref).strip()
    entries = parse_tree(victim.repo._trees.raw(victim.git("rev-parse", f"{tip}^{{tree}}").strip()))
    below = put_raw(victim.repo, "tree", print_tree({oid[4:].encode(): entries.pop(oid.encode())}))
    entries[oid[:4].encode()] = Entry(TREE_MODE, bytes.fromhex(below))
    victim.commit(victim.ref, put_raw(victim.repo, "tree", print_tree(entries)), [tip], victim.key)
