"""Three-way merges of trials: what merges cleanly is what git makes of it, and what does not is told or refused."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitresearch.merge import Merge, strays, unresolved
from gitresearch.repo import CannotMerge, Repo
from gitresearch.trial import Trial
from tests.build import add_trial, git, study_repo

LINES = "".join(f"line {number}\n" for number in range(12))
LABELLED = b"<<<<<<< first\nLR = 0.2\n=======\nLR = 0.3\n>>>>>>> second\nSTEPS = 10\n"


def edited(*changes: tuple[int, str]) -> bytes:
    """The twelve lines with some of them replaced."""
    lines = LINES.splitlines(keepends=True)
    for number, text in changes:
        lines[number] = text
    return "".join(lines).encode()


@pytest.fixture
def lined(repo: Repo) -> Trial:
    """A trial whose train.py has twelve lines."""
    return add_trial(repo, "twelve lines", edits={"train.py": LINES.encode()})


def test_changes_of_both_sides_come_together(repo: Repo, lined: Trial) -> None:
    """Lines of one file, files that are new or gone; nothing is written, and neither side's order matters."""
    first = add_trial(repo, "one", [lined], {"train.py": edited((1, "ONE\n")), "lib/new.py": b"NEW = 1\n"})
    second = add_trial(repo, "two", [lined], {"train.py": edited((9, "TWO\n")), "lib/model.py": None})
    before = git(repo, "count-objects")
    assert repo.merge(first.oid, second.oid) == Merge(
        lined.oid, {"train.py": edited((1, "ONE\n"), (9, "TWO\n")), "lib/model.py": None}
    )
    assert repo.tree_with(first.oid, repo.merge(first.oid, second.oid).edits) == repo.tree_with(
        second.oid, repo.merge(second.oid, first.oid).edits
    )
    assert git(repo, "count-objects") == before


def test_the_same_change_on_both_sides_is_no_conflict(repo: Repo, lined: Trial) -> None:
    """What both did is there already."""
    first = add_trial(repo, "one", [lined], {"train.py": edited((1, "SAME\n"))})
    second = add_trial(repo, "two", [lined], {"train.py": edited((1, "SAME\n")), "new.py": b"N = 1\n"})
    assert repo.merge(first.oid, second.oid) == Merge(lined.oid, {"new.py": b"N = 1\n"})


def test_a_conflict_is_told_with_markers(repo: Repo) -> None:
    """Both sides with their labels; what merged beside it is apart."""
    first = add_trial(repo, "one", edits={"train.py": b"LR = 0.2\nSTEPS = 10\n"})
    second = add_trial(repo, "two", edits={"train.py": b"LR = 0.3\nSTEPS = 10\n", "lib/model.py": b"WIDTH = 9\n"})
    merge = repo.merge(first.oid, second.oid)
    assert merge.conflicts == {"train.py": LABELLED}
    assert merge.edits == {"lib/model.py": b"WIDTH = 9\n"}


def test_a_file_that_both_made_conflicts(repo: Repo) -> None:
    """There is no common text to start from."""
    trials = [add_trial(repo, name, edits={"new.py": f"NAME = {name!r}\n".encode()}) for name in ("one", "two")]
    merge = repo.merge(*(trial.oid for trial in trials))
    assert merge.conflicts == {
        "new.py": b"<<<<<<< first\nNAME = 'one'\n=======\nNAME = 'two'\n>>>>>>> second\n",
    }


@pytest.mark.parametrize(
    ("one", "two", "told"),
    [
        (b"\x00one", b"\x00two", "is no text"),
        (b"caf\xe9 1", b"caf\xe9 2", "is no text"),
        (b"LR = 2\n", None, "deleted on the other"),
        (None, b"LR = 2\n", "deleted on the other"),
    ],
)
def test_what_is_no_change_of_lines_is_refused(repo: Repo, one: bytes | None, two: bytes | None, told: str) -> None:
    """Binary files and a deletion against a change, in a sentence that names the file."""
    first = add_trial(repo, "one", edits={"train.py": one, "a.py": b""})
    second = add_trial(repo, "two", edits={"train.py": two, "b.py": b""})
    with pytest.raises(CannotMerge, match=rf"train\.py .*{told}"):
        repo.merge(first.oid, second.oid)


@pytest.mark.parametrize(("mode", "path"), [("100755", "train.py"), ("120000", "train.py"), ("100755", "new.py")])
def test_a_mode_is_not_merged(repo: Repo, mode: str, path: str) -> None:
    """Made by hand: a trial's edits never change one, so a merge must not either."""
    first = add_trial(repo, "one")
    blob = git(repo, "rev-parse", f"{first.oid}:run.sh").strip()
    rows = [row for row in git(repo, "ls-tree", repo.head_commit()).splitlines() if not row.endswith(f"\t{path}")]
    rows.append(f"{mode} blob {blob}\t{path}")
    made = subprocess.run(
        ["git", f"--git-dir={repo.git_dir}", "mktree"],
        input="\n".join(rows),
        capture_output=True,
        text=True,
        check=True,
    )
    second = git(repo, "commit-tree", made.stdout.strip(), "-p", repo.head_commit(), "-m", "by hand").strip()
    with pytest.raises(CannotMerge, match="no plain file"):
        repo.merge(first.oid, second)


def test_an_executable_stays_one(repo: Repo) -> None:
    """A change of its lines merges like any other."""
    first = add_trial(repo, "one")
    second = add_trial(repo, "two", edits={"run.sh": b"#!/bin/sh\nexec false\n"})
    trial = add_trial(repo, "both", [first, second], repo.merge(first.oid, second.oid).edits)
    assert git(repo, "ls-tree", trial.oid, "run.sh").startswith("100755")


def test_only_what_lies_under_the_root_is_merged(repo: Repo) -> None:
    """The rest of the tree is the first parent's, whatever the other side did there."""
    first = add_trial(repo, "one")
    second = add_trial(repo, "two", edits={"lib/model.py": b"WIDTH = 9\n", "hook.py": b"cheat\n"})
    assert repo.merge(first.oid, second.oid, "lib").edits == {"lib/model.py": b"WIDTH = 9\n"}


def test_a_criss_cross_takes_one_of_the_best_bases(repo: Repo, lined: Trial) -> None:
    """Two merges of the same pair, each gone on: any best common ancestor gives both later changes."""
    one = add_trial(repo, "one", [lined], {"train.py": edited((1, "ONE\n"))})
    two = add_trial(repo, "two", [lined], {"train.py": edited((5, "TWO\n"))})
    both = edited((1, "ONE\n"), (5, "TWO\n"))
    left = add_trial(repo, "left", [one, two], {"train.py": both})
    right = add_trial(repo, "right", [two, one], {"train.py": both})
    left_on = add_trial(repo, "left on", [left], {"train.py": edited((1, "ONE\n"), (5, "TWO\n"), (8, "LEFT\n"))})
    right_on = add_trial(repo, "right on", [right], {"train.py": edited((1, "ONE\n"), (5, "TWO\n"), (11, "RIGHT\n"))})
    merge = repo.merge(left_on.oid, right_on.oid)
    assert merge.base in (one.oid, two.oid)
    assert merge.edits == {"train.py": edited((1, "ONE\n"), (5, "TWO\n"), (8, "LEFT\n"), (11, "RIGHT\n"))}


def test_trials_that_stand_on_each_other(repo: Repo) -> None:
    """Nothing is to be had from one that is under the first; one above it is all its own."""
    first = add_trial(repo, "one")
    above = add_trial(repo, "two", [first], {"lib/model.py": b"WIDTH = 9\n"})
    with pytest.raises(CannotMerge, match="stands on"):
        repo.merge(above.oid, first.oid)
    assert repo.tree_with(first.oid, repo.merge(first.oid, above.oid).edits) == above.tree


def test_strangers_have_no_merge(repo: Repo) -> None:
    """Two histories without a common ancestor."""
    first = add_trial(repo, "one")
    alone = git(repo, "commit-tree", first.tree, "-m", "alone").strip()
    with pytest.raises(CannotMerge, match="no common ancestor"):
        repo.merge(first.oid, alone)


def test_a_step_is_taken_out_again(repo: Repo, lined: Trial) -> None:
    """Its lines go back to what they were before it, what came after stays; a combination goes out as a whole."""
    step = add_trial(repo, "step", [lined], {"train.py": edited((1, "STEP\n")), "new.py": b"N = 1\n"})
    side = add_trial(repo, "side", [lined], {"train.py": edited((5, "SIDE\n"))})
    both = add_trial(repo, "both", [step, side], repo.merge(step.oid, side.oid).edits)
    end = add_trial(repo, "end", [both], {"train.py": edited((1, "STEP\n"), (5, "SIDE\n"), (9, "END\n"))})
    assert repo.without(end.oid, step.oid).edits == {"train.py": edited((5, "SIDE\n"), (9, "END\n")), "new.py": None}
    assert repo.without(end.oid, both.oid).edits == {"train.py": edited((1, "STEP\n"), (9, "END\n"))}
    later = add_trial(repo, "later", [end], {"train.py": edited((1, "STEP 2\n"))})
    assert list(repo.without(later.oid, step.oid).conflicts) == ["train.py"]
    with pytest.raises(CannotMerge, match="does not stand on"):
        repo.without(side.oid, step.oid)


def test_an_audit_sees_what_no_merge_gives(repo: Repo) -> None:
    """From a commit and its parents alone: what came by the merge and what a conflict allows is no stray."""
    first = add_trial(repo, "one", edits={"train.py": b"LR = 0.2\nSTEPS = 10\n"})
    second = add_trial(repo, "two", edits={"train.py": b"LR = 0.3\nSTEPS = 10\n", "lib/model.py": b"WIDTH = 9\n"})
    merge = repo.merge(first.oid, second.oid)
    resolved = {"lib/model.py": b"WIDTH = 9\n", "train.py": b"LR = 0.25\nSTEPS = 10\n"}

    def found(edits: dict[str, bytes | None]) -> list[str]:
        made = add_trial(repo, "made", [first, second], edits)
        return strays(merge, repo.edits(first.oid, made.oid))

    assert found({**resolved}) == []
    assert found({**resolved, "lib/model.py": b"WIDTH = 10\n"}) == ["lib/model.py"]
    assert found({"train.py": resolved["train.py"]}) == ["lib/model.py"]
    assert found({**resolved, "run.sh": None, "more.py": b""}) == ["more.py", "run.sh"]


@pytest.mark.parametrize(
    ("after", "left"),
    [
        (b"LR = 0.25\nSTEPS = 10\n", False),
        (None, False),
        (LABELLED, True),
        (b"LR = 0.2\n>>>>>>> second\n", True),
        (b"LR = 0.2\r\n<<<<<<<\r\n", True),
        (b"LR = 0.2\n=======\n", True),
        (b"LR = 1 <<<<<<< 2\n'''========'''\n", False),
    ],
)
def test_a_marker_that_is_left_is_seen(after: bytes | None, left: bool) -> None:
    """A line of any of the three; not the same characters within a line."""
    assert unresolved(Merge("", {}, {"a": LABELLED}), {"a": after}) == (["a"] if left else [])


def test_an_underline_of_seven_is_no_marker() -> None:
    """What both sides had before the merge may stay."""
    marked = b"Heading\n=======\n" + LABELLED
    assert unresolved(Merge("", {}, {"a": marked}), {"a": b"Heading\n=======\nLR = 1\n"}) == []
    assert unresolved(Merge("", {}, {"a": marked}), {"a": b"Heading\n=======\nLR = 1\n=======\n"}) == ["a"]


TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n", "\n", "=======\n"]), max_size=9).map("".join)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    return study_repo(tmp_path_factory.mktemp("merging") / "repo")


@given(base=TEXTS, first=TEXTS, second=TEXTS, end=st.sampled_from(["", "e"]))
def test_git_merges_the_same_lines(shared: Repo, base: str, first: str, second: str, end: str) -> None:
    """`git merge-file` is clean where ours is, with the same bytes."""
    texts = [(text + end).encode() for text in (base, first, second)]
    trunk = add_trial(shared, "trunk", edits={"a.py": texts[0], "b.py": b""}, time=1)
    sides = [
        add_trial(shared, f"side {number}", [trunk], {"a.py": text, f"own {number}": b""}, time=2)
        for number, text in enumerate(texts[1:])
    ]
    merge = shared.merge(sides[0].oid, sides[1].oid)
    paths = [Path(shared.git_dir, name) for name in ("ours", "base", "theirs")]
    for path, text in zip(paths, (texts[1], texts[0], texts[2]), strict=True):
        path.write_bytes(text)
    done = subprocess.run(["git", "merge-file", "-p", *map(str, paths)], capture_output=True, check=False)
    assert (done.returncode == 0) == (not merge.conflicts)
    if not merge.conflicts:
        assert merge.edits.get("a.py", texts[1]) == done.stdout


FILES = st.dictionaries(st.sampled_from(["a.py", "b.py", "lib/c.py"]), st.integers(1, 3))


@given(base=FILES, first=FILES, second=FILES)
def test_git_merges_the_same_trees(
    shared: Repo, base: dict[str, int], first: dict[str, int], second: dict[str, int]
) -> None:
    """`git merge-tree` is clean where ours is, with the same tree; no two files are alike, so none is renamed."""

    def trial(name: str, files: dict[str, int], on: list[Trial], own: str) -> Trial:
        start = on[0].oid if on else shared.head_commit()
        gone = dict.fromkeys(path for path in shared.files(start) if path in ("a.py", "b.py", "lib/c.py"))
        texts = {path: f"{path} {number}\n".encode() for path, number in files.items()}
        return add_trial(shared, name, on, {**gone, **texts, own: b""}, time=1 + len(on))

    trunk = trial("tree", base, [], "mark")
    sides = [trial(name, files, [trunk], name) for name, files in (("one", first), ("two", second))]
    asked = ["merge-tree", "--write-tree", *(side.oid for side in sides)]
    done = subprocess.run(["git", f"--git-dir={shared.git_dir}", *asked], capture_output=True, text=True, check=False)
    if done.returncode > 1:
        pytest.skip("this git has no merge-tree --write-tree")
    try:
        merge = shared.merge(sides[0].oid, sides[1].oid)
    except CannotMerge:
        assert done.returncode == 1
        return
    assert (done.returncode == 0) == (not merge.conflicts)
    if not merge.conflicts:
        assert shared.tree_with(sides[0].oid, merge.edits) == done.stdout.split()[0]
