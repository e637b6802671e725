"""Files in commits: reading, editing without a checkout, exporting, comparing, and the names that are refused."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitresearch.errors import FormatError, GitResearchError
from gitresearch.repo import Repo
from gitresearch.repo.objects import Entry, parse_tree, print_tree, with_entry
from gitresearch.repo.trees import check_path
from tests.build import FILES, add_trial, git, plain_repo, put_raw

EVIL = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", ".git", ".GIT", ".Git/config", "a/.git/hooks/x", "git~1",
    "GIT~1/x", ".git ", ".git.", ".git. .", ".git::$INDEX_ALLOCATION", "a\\b", "a\x00b", "a\nb", "a\x1b[2Jb",
    "a\u202eb", ".g\u200cit", "x" * 256, "/".join(["d"] * 40), "\udcff",
]  # fmt: skip


def commit_tree(repo: Repo, tree: str) -> str:
    """A commit of any tree."""
    return git(repo, "commit-tree", tree, "-m", "made by hand").strip()


def test_files_are_listed_as_git_lists_them(repo: Repo) -> None:
    """Paths, modes, oids and sizes agree with `git ls-tree`."""
    lines = git(repo, "ls-tree", "-r", "-l", "HEAD").splitlines()
    told = {(f"{f.mode:o}", f.oid, str(f.size), path) for path, f in repo.files(repo.head_commit()).items()}
    assert told == {(a[0], a[2], a[3], name) for line in lines for a, name in [(line.split()[:4], line.split("\t")[1])]}


def test_a_root_narrows_the_listing(repo: Repo) -> None:
    """Only what lies under the root is listed, named from the repository's top."""
    head = repo.head_commit()
    assert list(repo.files(head, "lib")) == ["lib/model.py"]
    assert list(repo.files(head, "lib/model.py")) == ["lib/model.py"]
    assert repo.files(head, "nowhere") == {}


def test_a_file_is_read_as_committed(repo: Repo) -> None:
    """A missing file and a directory are None, not an error."""
    head = repo.head_commit()
    assert repo.read_file(head, "lib/model.py") == FILES["lib/model.py"]
    assert repo.read_file(head, "lib/none.py") is None
    assert repo.read_file(head, "lib") is None
    assert repo.read_file(head, "train.py/x") is None


def test_what_differs_is_what_git_says(repo: Repo) -> None:
    """Files made, changed and deleted, a folder in the place of a file and the other way round, a mode: as `git diff`
    tells them."""
    head = repo.head_commit()
    blob, script = (entry.oid for entry in list(repo.files(head).values())[:2])
    rows = f"100644 blob {blob}\tlib\n100755 blob {script}\trun.sh\n100644 blob {blob}\tnew.py\n"
    below = put_raw(repo, "tree", b"100644 x.py\0" + bytes.fromhex(blob))
    made = subprocess.run(
        ["git", "-C", str(repo.git_dir), "mktree"], input=f"{rows}040000 tree {below}\ttrain.py\n", text=True,
        capture_output=True, check=True,
    ).stdout.strip()  # fmt: skip
    other = commit_tree(repo, made)
    for one, two in ((head, other), (other, head), (head, head)):
        lines = git(repo, "diff-tree", "-r", "--no-renames", one, two).splitlines()
        told = {line.split("\t")[1]: tuple(int(mode, 8) for mode in line[1:].split()[:2]) for line in lines}
        assert repo.modes(one, two) == told
        assert repo.edits(one, two) == {
            path: repo.read_file(two, path) if modes[1] else None for path, modes in told.items()
        }


def test_edits_change_only_what_they_name(repo: Repo) -> None:
    """Modes stay, empty directories go, new ones come; the result is git's own tree."""
    head = repo.head_commit()
    edits = {"run.sh": b"#!/bin/sh\n", "lib/model.py": None, "new/deep/file.py": b"x = 1\n"}
    tree = repo.tree_with(head, edits)
    assert not Path(repo.common_dir, "objects", tree[:2], tree[2:]).exists()  # it was only asked for
    assert add_trial(repo, edits=edits).tree == tree
    listed = git(repo, "ls-tree", "-r", tree)
    assert [line.split()[0] + line.split("\t")[1] for line in listed.splitlines()] == [
        "100644new/deep/file.py", "100755run.sh", "100644train.py",
    ]  # fmt: skip
    assert git(repo, "cat-file", "blob", f"{tree}:run.sh") == "#!/bin/sh\n"
    assert "error" not in git(repo, "fsck", "--strict")


@pytest.mark.parametrize("path", EVIL)
def test_evil_names_are_refused(repo: Repo, path: str) -> None:
    """No path that git, a terminal or some file system takes for something else gets into a tree."""
    with pytest.raises(FormatError):
        repo.tree_with(repo.head_commit(), {path: b"x"})


@pytest.mark.parametrize(
    "path", ["a.git", ".gitignore", ".gitattributes", "git", "git~", "a b", "ü.py", "..a", "a..", "-x"]
)
def test_harmless_names_pass(path: str) -> None:
    """Names that only resemble the evil ones are fine."""
    assert check_path(path) == [path]


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"train.py/x": b""}, "is a file, not a directory"),
        ({"lib": b""}, "is a directory, a link or a submodule"),
        ({"nothing.py": None}, "no file 'nothing.py' to delete"),
        ({"none/nothing.py": None}, "no file"),
        ({"Train.py": b""}, "upper and lower case"),
        ({"a": b"", "a/b": b""}, "under a file"),
        ({"a/b": b"", "a": b""}, "both as a file and as a directory"),
        ({"link": b"elsewhere"}, "a link"),
    ],
)
def test_edits_that_contradict_the_tree_are_refused(repo: Repo, edits: dict[str, bytes | None], said: str) -> None:
    """What the edit assumes about the tree must be so."""
    assert repo.workdir is not None
    (repo.workdir / "link").symlink_to("train.py")
    git(repo.workdir, "add", "link")
    git(repo.workdir, "commit", "--quiet", "--message=a link")
    with pytest.raises(FormatError, match=said):
        repo.tree_with(repo.head_commit(), edits)


def test_export_writes_the_bytes_of_the_commit(tmp_path: Path) -> None:
    """No filter, no end-of-line conversion, no export-ignore, no `.git`; the executable bit stays."""
    files = {
        **FILES,
        ".gitattributes": b"* text eol=crlf\ntrain.py export-ignore ident\n",
        "crlf": b"a\r\nb\n$Id$\0\xff",
    }
    repo = Repo.open(plain_repo(tmp_path / "r", files))
    repo.export(repo.head_commit(), "", tmp_path / "out")
    found = {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == {name: git_bytes(repo, name) for name in files}
    assert found["train.py"] == FILES["train.py"]
    assert stat.S_IMODE((tmp_path / "out/run.sh").stat().st_mode) & 0o111
    assert not stat.S_IMODE((tmp_path / "out/train.py").stat().st_mode) & 0o111


def git_bytes(repo: Repo, path: str) -> bytes:
    """A committed file by git's own hand."""
    command = ["git", f"--git-dir={repo.git_dir}", "cat-file", "blob", f"HEAD:{path}"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def test_export_of_a_root_leaves_its_name_out(repo: Repo, tmp_path: Path) -> None:
    """A recipe in a subdirectory lands at the top of the exported directory."""
    repo.export(repo.head_commit(), "lib", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["model.py"]


def test_export_wants_an_empty_directory(repo: Repo, tmp_path: Path) -> None:
    """Nothing of another trial is left to be read, nothing is overwritten."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").touch()
    with pytest.raises(GitResearchError, match="not empty"):
        repo.export(repo.head_commit(), "", tmp_path / "out")


@pytest.mark.parametrize(
    "line",
    [
        b"120000 link\0", b"160000 module\0", b"100644 .git\0", b"100644 ..\0", b"100644 a/b\0",
        b"100644 evil\x1b[2J\0", b"40000 .GIT\0", b"100644 \xff\0", b"100644 A\0",
    ],
)  # fmt: skip
def test_export_refuses_hostile_trees_before_it_writes(repo: Repo, tmp_path: Path, line: bytes) -> None:
    """A fetched tree is not trusted: links, submodules and evil names stop the export with nothing on disk."""
    blob = put_raw(repo, "blob", b"x")
    inner = put_raw(repo, "tree", b"100644 x\0" + bytes.fromhex(blob))
    target = inner if line.startswith(b"40000") else blob
    tree = put_raw(repo, "tree", b"100644 a\0" + bytes.fromhex(blob) + line + bytes.fromhex(target))
    with pytest.raises(GitResearchError):
        repo.export(commit_tree(repo, tree), "", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "b").exists()


def test_diff_is_unified_text(repo: Repo) -> None:
    """The change between two commits, whole or under some paths."""
    head = repo.head_commit()
    changed = add_trial(repo, edits={"train.py": b"LR = 0.2\n", "lib/model.py": b"WIDTH = 9\n"}).oid
    assert "+WIDTH = 9" in repo.diff(head, changed)
    only = repo.diff(head, changed, ["train.py"])
    assert "-LR = 0.1\n" in only
    assert "+LR = 0.2\n" in only
    assert "WIDTH" not in only
    assert repo.diff(head, head) == ""


def test_blobs_come_back(repo: Repo) -> None:
    """Bytes of any kind; asking for what is no blob is an error with a command to type."""
    oid = put_raw(repo, "blob", b"\0\xff brief")
    assert repo.blob(oid) == b"\0\xff brief"
    for other in (repo.head_commit(), "0" * 40):
        with pytest.raises(GitResearchError) as caught:
            repo.blob(other)
        assert caught.value.hint.startswith("git ")


NAMES = st.from_regex(rb"[a-z0-9.~-]{1,3}", fullmatch=True)
ENTRIES = st.dictionaries(
    NAMES, st.builds(Entry, st.sampled_from([b"100644", b"40000"]), st.binary(min_size=20, max_size=20)), max_size=40
)


@given(ENTRIES, NAMES, st.builds(Entry, st.sampled_from([b"100644", b"40000"]), st.binary(min_size=20, max_size=20)))
def test_splicing_a_tree_equals_printing_it(entries: dict[bytes, Entry], name: bytes, entry: Entry) -> None:
    """One entry put in by splicing gives the bytes that printing the whole tree gives."""
    assert parse_tree(print_tree(entries)) == entries
    if name in entries and entries[name].mode != entry.mode:
        return  # a file never becomes a directory here
    assert with_entry(print_tree(entries), name, entry) == print_tree(entries | {name: entry})


def test_small_objects_that_name_many_files_are_refused(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tree of a hundred times the same one, twelve deep, is given up before anybody waits for it."""
    monkeypatch.setattr("gitresearch.repo.trees.MAX_ENTRIES", 1000)
    blob = put_raw(repo, "blob", b"x")
    tree = put_raw(repo, "tree", print_tree({b"%02d" % n: Entry(b"100644", bytes.fromhex(blob)) for n in range(100)}))
    for _ in range(12):
        entry = Entry(b"40000", bytes.fromhex(tree))
        tree = put_raw(repo, "tree", print_tree({b"%02d" % n: entry for n in range(100)}))
    oid, head = commit_tree(repo, tree), repo.head_commit()
    for act in (
        lambda: repo.files(oid), lambda: repo.export(oid, "", tmp_path / "out"), lambda: repo.edits(head, oid),
        lambda: repo.modes(oid, head), lambda: repo.diff(head, oid),
    ):  # fmt: skip
        with pytest.raises(FormatError, match="more than 1000"):
            act()
