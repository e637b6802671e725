"""A lie stands where every reader looks, and the truth after it in a folder where only the chain's difference does."""

from gitresearch.repo.objects import TREE_MODE, Entry, parse_tree, print_tree
from tests.attacks.victim import Victim
from tests.build import put_raw

CLAIM = "one place for a note"
WITHOUT = {"gitresearch.audit.notes._misplaced": lambda _link: ()}


def attack(victim: Victim) -> None:
    oid = victim.trial("discard")
    told = victim.outcome(oid)
    lie = victim.lie(oid, status="keep", score=told.summary.score, confirmed=True)
    tree = victim.git("rev-parse", f"{lie}^{{tree}}").strip()
    entries = parse_tree(victim.repo._trees.raw(tree))
    blob = bytes.fromhex(victim.aside("hash-object", "-w", "--stdin", given=told.note()))
    below = put_raw(victim.repo, "tree", print_tree({oid[4:].encode(): Entry(b"100644", blob)}))
    entries[oid[:4].encode()] = Entry(TREE_MODE, bytes.fromhex(below))
    victim.commit(victim.ref, put_raw(victim.repo, "tree", print_tree(entries)), [lie], victim.key)
