"""Surfaces: what a specialist may edit, and every trick to edit more that we could think of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitresearch.surface import Surface, glob_match, python_tree, safe_path, symbol_spans

SOURCE = """\
import os

LR = 0.1  # the rate
WD: float = 0.0


@cached
def schedule(step):
    return LR * step


class Model:
    width = 8

    def forward(self, x):
        return x

    def loss(self, x):
        return x


print(LR)
"""


def wrong(after: str | bytes, *names: str, before: str | bytes = SOURCE) -> list[str]:
    """What is wrong with changing train.py where these of its symbols may be changed."""
    surface = Surface.of(f"train.py::{name}" for name in names)
    old, new = (text.encode() if isinstance(text, str) else text for text in (before, after))
    return surface.violations({"train.py": old}, {"train.py": new})


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("train.py", "train.py", True),
        ("train.py", "lib/train.py", False),
        ("train.py", "trainXpy", False),
        ("*.py", "train.py", True),
        ("*.py", "lib/train.py", False),
        ("lib/*", "lib/a/b.py", False),
        ("lib/**", "lib/a/b.py", True),
        ("lib/**/*.py", "lib/b.py", True),
        ("lib/**/*.py", "lib/a/c/b.py", True),
        ("**/*.py", "b.py", True),
        ("**", "a/b", True),
        ("lib/", "lib/a/b.py", True),
        ("lib/", "library/b.py", False),
        (".", "a/b", True),
        ("a?.py", "ab.py", True),
        ("a?.py", "a/.py", False),
        ("[ab].py", "a.py", False),
        ("a+b(1).py", "a+b(1).py", True),
    ],
)
def test_globs_keep_to_folders(pattern: str, path: str, matches: bool) -> None:
    """`*` stays within a folder, `**` crosses them, a folder stands for all below it, and nothing else is special."""
    assert glob_match(pattern, path) is matches


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../b", "/etc/passwd", "a//b", "", ".", "a/.", ".git/config", "a/.GIT/x", ".gitattributes",
     ".github/w.yml", "git~1/x", "a\\b", "a\nb", "a\0b", "a\u202eb", "a\u200bb"],
)  # fmt: skip
def test_a_path_that_git_or_a_file_system_takes_for_more_is_refused(path: str) -> None:
    """However wide the surface, an edit stays in the tree and away from what git obeys."""
    assert not safe_path(path)
    assert Surface.of(["**"]).violations({}, {path: b"x"})


def test_a_covered_file_may_be_changed_made_and_deleted() -> None:
    """A path pattern gives the whole file."""
    surface = Surface.of(["lib/*.py"])
    assert (
        surface.violations({"lib/a.py": b"1"}, {"lib/a.py": b"not ( python", "lib/b.py": b"", "lib/c.py": None}) == []
    )
    assert surface.spans("lib/a.py", "a\nb\n") == [(1, 3)]


def test_a_file_outside_may_not_be_touched_and_an_unchanged_one_counts_for_nothing() -> None:
    """Each file that left the surface has its sentence, in the order of the paths."""
    surface = Surface.of(["a.py", "b.py::X"])
    before = {"a.py": b"1", "b.py": b"X = 1\n", "c.py": b"1", "d.py": b"1"}
    edits = {"d.py": None, "c.py": b"1", "b.py": None, "e.py": b"2", "a.py": None}
    assert surface.violations(before, edits) == [
        "b.py may not be deleted: only X may be edited",
        "d.py is outside the surface",
        "e.py is outside the surface",
    ]
    assert surface.violations({}, {"b.py": b"X = 1\n"}) == ["b.py may not be made: only X may be edited"]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("LR", "LR = 0.1  # the rate", "LR = 0.2"),
        ("LR", "LR = 0.1  # the rate", "LR = (\n    0.2\n)  # another rate"),
        ("LR", "LR = 0.1  # the rate", "LR: float = 0.2"),
        ("WD", "WD: float = 0.0", "WD = [1,\n2]"),
        ("schedule", "@cached\ndef schedule(step):\n    return LR * step", "def schedule(a):\n    c = 1\n    return c"),
        ("schedule", "@cached\n", "@other\n@cached\n"),
        ("schedule", "def schedule", "async def schedule"),
        ("Model", "    width = 8\n", ""),
        ("Model.loss", "    def loss(self, x):\n        return x", "    def loss(self):\n        return '''\n'''"),
    ],
)  # fmt: skip
def test_a_symbol_may_be_changed_as_a_whole(name: str, old: str, new: str) -> None:
    """The text of the symbol, its decorators and the comment behind it are free."""
    assert old in SOURCE
    assert wrong(SOURCE.replace(old, new), name) == []


@pytest.mark.parametrize(
    ("names", "old", "new"),
    [
        (["LR"], "import os", "import sys"),
        (["LR"], "LR = 0.1", "import sys\nLR = 0.1"),
        (["LR"], "  # the rate", "\nimport sys"),
        (["LR"], "  # the rate", "; import sys"),
        (["LR"], "LR = 0.1", "import sys; LR = 0.1"),
        (["LR"], "  # the rate", " \\\n; import sys"),
        (["LR"], "LR = 0.1", "LR = WD = 0.1"),
        (["LR"], "LR = 0.1", "LR, os = 0.1, 2"),
        (["LR"], "LR = 0.1", "LR[0] = 0.1"),
        (["LR"], "LR = 0.1", "LR += 0.1"),
        (["LR"], "LR = 0.1  # the rate\n", ""),
        (["LR"], "print(LR)", "LR = 3\nprint(LR)"),
        (["NEW"], "print(LR)", "NEW = 3\nprint(LR)"),
        (["schedule"], "    return LR * step\n", "    return LR * step\nimport sys\n"),
        (["schedule"], "@cached", "import sys\n@cached"),
        (["Model.loss"], "    width = 8", "    width = 9"),
        (["Model.loss"], "def loss", "def loss2"),
        (["Model.loss"], "class Model", "class Model(Base)"),
        (["Model", "Model.loss"], "print(LR)", "print(WD)"),
        (["Model", "Model.loss", "Model.forward"], "\n\nprint(LR)", "\n\nimport sys\nprint(LR)"),
        (["LR", "WD"], "LR = 0.1  # the rate\nWD: float = 0.0", "WD: float = 0.0\nLR = 0.1  # the rate"),
        (["schedule"], "    return LR * step", "    return LR *"),
        (["LR"], "LR = 0.1", "LR = '''"),
        (["LR"], "LR = 0.1  # the rate", 'LR = 0.1\r# "\rWD = 5'),
        (["LR"], "LR = 0.1", "LR = '\0'"),
    ],
)
def test_nothing_but_the_symbol_may_be_changed(names: list[str], old: str, new: str) -> None:
    """Neighbours on the same line, other targets, twins, swaps, deletions and what doesn't parse are all caught."""
    assert old in SOURCE
    assert wrong(SOURCE.replace(old, new), *names)


def test_two_symbols_on_a_line_are_told_apart() -> None:
    """What shares a line with a symbol is compared to the letter, in bytes: accents shift no column."""
    before = "A = 'é'; B = 'ü'; C = 3\n"
    assert wrong("A = 'éé'; B = 'ü'; C = 3\n", "A", before=before) == []
    assert wrong("A = 'é'; B = 1; C = 3\n", "B", before=before) == []
    assert wrong("A = 'é'; B = 1; C = 3\n", "A", "C", before=before)
    assert wrong("A = 'é'; B = 'ü'; C = 4; D = 1\n", "A", "B", "C", before=before)


def test_a_declared_encoding_hides_nothing() -> None:
    """A file that Python reads in another encoding than we do can't be compared."""
    for declared, fine in (("utf8", True), ("UTF-8", True), ("utf-7", False), ("latin-1", False), ("no-such", False)):
        before = f"# coding: {declared}\nLR = 0.1\n"
        assert (wrong(before.replace("0.1", "0.2  # +AAo-evil()"), "LR", before=before) == []) is fine
    assert wrong(b"LR = '\xff'\n", "LR", before="LR = 1\n")


def test_byte_order_mark_and_crlf_are_taken_as_they_are() -> None:
    """Files from other systems are compared as they are: neither mark nor line ends may change outside the symbol."""
    bom, dos = b"\xef\xbb\xbfLR = 1\nprint(1)\n", b"LR = 1\r\nprint(1)\r\n"
    assert wrong(bom.replace(b"1\n", b"2\n", 1), "LR", before=bom) == []
    assert wrong(bom[3:], "LR", before=bom)
    assert wrong(dos.replace(b"1\r\n", b"2\r\n", 1), "LR", before=dos) == []
    assert wrong(dos.replace(b"\r\n", b"\n"), "LR", before=dos)


def test_trailing_blank_lines_are_free() -> None:
    """An editor that ends a file with one line break more changes nothing."""
    assert wrong(SOURCE + "\n\n", "LR") == []


@pytest.mark.parametrize("after", ["(" * 5000, "-" * 50_000 + "1", "a" + ".a" * 50_000])
def test_source_that_breaks_the_parser_is_outside(after: str) -> None:
    """Nesting without end is told, not raised."""
    assert wrong(after, "LR")


def test_spans_are_the_lines_of_the_symbols() -> None:
    """What a prompt must show whole: decorators and all, in the order of the file; nothing in other files."""
    surface = Surface.of(["train.py::schedule", "train.py::Model.loss", "train.py::LR"])
    assert surface.spans("train.py", SOURCE) == [(3, 3), (7, 9), (18, 19)]
    assert surface.spans("other.py", "x") == []
    assert (surface.touches("train.py"), surface.covers("train.py"), surface.touches("other.py")) == (
        True,
        False,
        False,
    )
    assert symbol_spans("class A:\n    def f(self): ...\n", ["A", "A.f"]) == [(1, 2)]


def test_parsing_warns_of_nothing() -> None:
    """An odd escape in somebody's recipe is not our caller's trouble."""
    assert python_tree("x = '\\d'").body


NAMES = ["LR", "WD", "Model", "Model.loss", "schedule"]
LINES = SOURCE.split("\n")


@given(
    st.sets(st.sampled_from(NAMES), min_size=1), st.integers(0, len(LINES) - 2), st.text("ab1 =#;\n\r'()", max_size=8)
)
def test_a_changed_line_outside_is_always_seen(names: set[str], at: int, new: str) -> None:
    """Whatever takes the place of a line that belongs to no named symbol, it is a violation unless nothing changed."""
    surface = Surface.of(f"train.py::{name}" for name in names)
    inside = {line for first, last in surface.spans("train.py", SOURCE) for line in range(first, last + 1)}
    after = "\n".join([*LINES[:at], new, *LINES[at + 1 :]])
    if at + 1 not in inside and after.rstrip() != SOURCE.rstrip():
        assert wrong(after, *names)
