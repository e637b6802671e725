"""Notes trees: any layout is read, ours is git's to read, and a difference is what changed."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitresearch.errors import FormatError
from gitresearch.repo.notes import diff_notes, find_note, put_note, put_notes, read_notes
from gitresearch.repo.objects import TREE_MODE, Entry, print_tree
from gitresearch.repo.packfile import Overlay
from gitresearch.repo.trees import Trees


class NoObjects:
    """A repository without objects."""

    def read(self, oid: str) -> tuple[int, bytes]:
        raise KeyError(oid)


def some_notes(count: int, seed: str = "") -> dict[str, str]:
    """Oids with blobs, spread as hashes are."""
    return {hashlib.sha1(f"{seed}{n}".encode()).hexdigest(): f"{n:040x}" for n in range(count)}


def store() -> tuple[Trees, Overlay]:
    overlay = Overlay(NoObjects())  # type: ignore[arg-type]
    return Trees(overlay), overlay


def laid_out(overlay: Overlay, notes: dict[str, str], depth: int) -> str:
    """The notes as git lays them out at a fan-out of `depth` directories."""
    if not depth:
        return overlay.write(
            "tree", print_tree({k.encode(): Entry(b"100644", bytes.fromhex(v)) for k, v in notes.items()})
        )
    parts: dict[str, dict[str, str]] = {}
    for oid, blob in notes.items():
        parts.setdefault(oid[:2], {})[oid[2:]] = blob
    entries = {k.encode(): Entry(TREE_MODE, bytes.fromhex(laid_out(overlay, v, depth - 1))) for k, v in parts.items()}
    return overlay.write("tree", print_tree(entries))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 300, 2000])
def test_notes_put_one_by_one_are_all_there(count: int) -> None:
    """Across every change of layout nothing is lost, and each is found alone."""
    trees, overlay = store()
    notes, tree = some_notes(count), None
    for oid, blob in notes.items():
        tree = put_note(trees, overlay, tree, oid.encode(), bytes.fromhex(blob))
    assert tree is not None
    assert read_notes(trees, tree) == notes
    assert all(find_note(trees, tree, oid) == blob for oid, blob in list(notes.items())[::37])
    assert find_note(trees, tree, "f" * 40) is None


def test_small_objects_that_name_many_notes_are_refused() -> None:
    """Twenty trees of 256 times the same one: neither a reader nor the difference to another such tree walks them."""
    trees, overlay = store()
    bombs = []
    for blob in ("1" * 40, "2" * 40):
        tree = overlay.write(
            "tree", print_tree({b"%02x" % n: Entry(b"100644", bytes.fromhex(blob)) for n in range(256)})
        )
        for _ in range(19):
            entry = Entry(TREE_MODE, bytes.fromhex(tree))
            tree = overlay.write("tree", print_tree({b"%02x" % n: entry for n in range(256)}))
        bombs.append(tree)
    with pytest.raises(FormatError, match="twice"):
        read_notes(trees, bombs[0])
    for old in (None, bombs[1]):
        with pytest.raises(FormatError, match="twice"):
            diff_notes(trees, old, bombs[0])


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_any_layout_of_gits_is_read_and_written_on(depth: int) -> None:
    """A tree that git merged or rewrote is as good as ours: notes are found, replaced and added."""
    trees, overlay = store()
    notes = some_notes(400)
    tree = laid_out(overlay, notes, depth)
    assert read_notes(trees, tree) == notes
    replaced, added = next(iter(notes)), "ab" + "0" * 38
    for oid in (replaced, added):
        tree = put_note(trees, overlay, tree, oid.encode(), bytes(20))
    expected = notes | {replaced: "0" * 40, added: "0" * 40}
    assert read_notes(trees, tree) == expected
    assert all(find_note(trees, tree, oid) == expected[oid] for oid in (replaced, added))


def test_many_at_once_equal_one_by_one() -> None:
    """The import's way gives the same notes as the evaluator's."""
    trees, overlay = store()
    notes = some_notes(900)
    rows = [(oid.encode(), bytes.fromhex(blob)) for oid, blob in notes.items()]
    tree = put_notes(trees, overlay, put_notes(trees, overlay, None, rows[:100]), rows[50:])
    assert read_notes(trees, tree) == notes


@given(st.integers(0, 2), st.integers(0, 2), st.sets(st.integers(0, 120)), st.sets(st.integers(0, 120)))
def test_a_difference_is_exactly_what_changed(before: int, after: int, old: set[int], new: set[int]) -> None:
    """Whatever the two layouts are: added, replaced and removed notes, and no other."""
    trees, overlay = store()
    pool = list(some_notes(121).items())
    was = {pool[n][0]: pool[n][1] for n in old}
    now = {pool[n][0]: "9" * 40 if n % 7 == 0 else pool[n][1] for n in new}
    found = diff_notes(trees, laid_out(overlay, was, before), laid_out(overlay, now, after))
    expected = {oid: now.get(oid) for oid in was.keys() | now.keys() if was.get(oid) != now.get(oid)}
    assert {oid: blob for oid, blob in found.items() if blob != was.get(oid)} == expected


def test_what_is_no_note_is_passed_over() -> None:
    """git keeps other entries of a notes tree; they are no trials' notes, and they stay."""
    trees, overlay = store()
    tree = overlay.write(
        "tree", print_tree({b"README": Entry(b"100644", bytes(20)), b"zz": Entry(b"100644", bytes(20))})
    )
    tree = put_note(trees, overlay, tree, b"a" * 40, bytes(20))
    assert read_notes(trees, tree) == {"a" * 40: "0" * 40}
    assert set(trees.entries(tree)) == {b"README", b"zz", b"a" * 40}
