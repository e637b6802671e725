"""Answers read and applied: one place or none, linear in hostile text, and no leaked markup in a title or a file."""

import textwrap
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitresearch import answers
from gitresearch.answers import Answer, Block, EditError, parse
from gitresearch.edit import Applied, apply, broken, edits_of
from gitresearch.surface import Surface

FILE = """\
import math

LR = 0.1
MIN_LR = 0.1


def loss(x):
    if x:
        y = x * 2
        return y
    return 0
"""
FILES = {"train.py": FILE.encode(), "lib/net.py": b"WIDTH = 8\n"}
ALL = Surface.of(["**"])
HEAD = "title: change it\nwhy: because\nexpect: -0.1\n\n"


def block(path: str, search: str, replace: str, size: int = 7) -> str:
    """A SEARCH/REPLACE block as the format asks for it."""
    return f"{path}\n{'<' * size} SEARCH\n{search}{'=' * size}\n{replace}{'>' * size} REPLACE\n"


def answer(*blocks: Block) -> Answer:
    """A parsed answer with these blocks."""
    return Answer("t", "w", None, blocks)


def put(search: str, replace: str, text: str = FILE) -> Applied:
    """One block applied to one file."""
    return apply(answer(Block("train.py", search, replace)), {"train.py": text.encode()})


def new(applied: Applied, path: str = "train.py") -> str:
    """The new text of a file to which all blocks applied."""
    assert not applied.mismatches
    return (applied.edits[path] or b"").decode()


ONE = HEAD + block("train.py", "LR = 0.1\n", "LR = 0.2\n")
CHANGE = Block("train.py", "LR = 0.1\n", "LR = 0.2\n")


@pytest.mark.parametrize(
    "text",
    [
        ONE,
        ONE.replace("\n", "\r\n"),
        ONE.rstrip("\n"),
        "Sure! Here is my change.\n\n" + ONE + "\nThat should do.\n",
        "```text\n" + ONE + "```\n",
        ONE.replace("train.py\n", "`train.py`\n"),
        ONE.replace("train.py\n", "**train.py**\n"),
        ONE.replace("train.py\n", "### train.py\n"),
        ONE.replace("train.py\n", "./train.py\n"),
        ONE.replace("train.py\n", "File: train.py\n"),
        ONE.replace("train.py\n", "train.py:\n\n"),
        ONE.replace("train.py\n", "train.py\n```python\n") + "```\n",
        ONE.replace("<<<<<<< SEARCH\n", "<<<<<<< SEARCH  \n"),
        ONE.replace("SEARCH\nLR", "SEARCH\n```python\nLR").replace("0.1\n===", "0.1\n```\n==="),
        "<think>\nlib/net.py\n<<<<<<< SEARCH\nno\n=======\nyes\n>>>>>>> REPLACE\n</think>\n" + ONE,
        "I think of\n\nlib/net.py\n<<<<<<< SEARCH\nno\n=======\nyes\n>>>>>>> REPLACE\n</think>\n" + ONE,
        HEAD.replace("title:", "**Title:**").replace("why:", "- why:").replace("- why", "why")
        + block("train.py", "LR = 0.1\n", "LR = 0.2\n", 5),
        HEAD + block("train.py", "LR = 0.1\n", "LR = 0.2\n", 9),
    ],
)
def test_what_stands_around_the_parts_is_ignored(text: str) -> None:
    """Prose, fences, line ends, reasoning and the ways to write a path make no difference."""
    found = parse(text)
    assert (found.title, found.why, found.expect) == ("change it", "because", -0.1)
    assert found.blocks == (CHANGE,)


def test_several_blocks_keep_their_order_and_a_path_counts_until_the_next() -> None:
    """Blocks apply one on top of the other; a second block right below needs no path of its own."""
    text = HEAD + block("train.py", "LR = 0.1\n", "LR = 0.2\n") + block("", "LR = 0.2\n", "LR = 0.3\n").lstrip("\n")
    text += "\n" + block("lib/net.py", "WIDTH = 8\n", "WIDTH = 9\n")
    applied = apply(parse(text), FILES)
    assert "\nLR = 0.3\n" in new(applied)
    assert new(applied, "lib/net.py") == "WIDTH = 9\n"


def test_whole_files_are_written_and_deleted() -> None:
    """FILE takes what stands between its markers, DELETE takes the file away."""
    text = HEAD + "new.py\n<<<<<<< FILE\nA = 1\n\nB = 2\n>>>>>>> FILE\n\nlib/net.py\n<<<<<<< DELETE\n>>>>>>> DELETE\n"
    assert apply(parse(text), FILES).edits == {"new.py": b"A = 1\n\nB = 2\n", "lib/net.py": None}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no SEARCH/REPLACE"),
        (HEAD, "no SEARCH/REPLACE"),
        ("I would rather not change anything.", "no SEARCH/REPLACE"),
        (block("train.py", "a\n", "b\n"), "title"),
        ("title:\nwhy: x\n\n" + block("train.py", "a\n", "b\n"), "title"),
        ('title: {"a": 1}\n\n' + block("train.py", "a\n", "b\n"), "title"),
        (HEAD.rstrip("\n") + "\n\n" + block("", "a\n", "b\n"), "path"),
        (HEAD + block("this is how I would change it, I think!", "a\n", "b\n"), "path"),
        (HEAD + "train.py\n<<<<<<< SEARCH\na\n", "not closed"),
        (HEAD + "train.py\n<<<<<<< SEARCH\na\n=======\nb\n", "not closed"),
        (HEAD + "train.py\n<<<<<<< SEARCH\na\n>>>>>>> REPLACE\n", "one line of ======="),
        (HEAD + "train.py\n<<<<<<< SEARCH\na\n=======\nb\n=======\nc\n>>>>>>> REPLACE\n", "and has 2"),
        (HEAD + "train.py\n<<<<<<< SEARCH\na\n>>>>>>> REPLACE\nb\n=======\n", "one line of ======="),
        (HEAD + "train.py\n<<<<<<< SEARCH\na\n<<<<<<< SEARCH\nb\n=======\nc\n>>>>>>> REPLACE\n", "not closed"),
        (HEAD + "train.py\n>>>>>>> REPLACE\nb\n=======\na\n<<<<<<< SEARCH\n", "not closed"),
        (HEAD + "new.py\n<<<<<<< FILE\na = 1\n", "not closed"),
        ("<think>\n" + ONE, "reasoning"),
        ("x" * (1 << 20) + "\n" + ONE, "longer than"),
        (HEAD + block("train.py", "a\n", "b\n") * 101, "more than 100 blocks"),
    ],
)
def test_what_is_no_answer_says_why(text: str, words: str) -> None:
    """Each way to get the format wrong is told to the agent in words of its own."""
    with pytest.raises(EditError, match=words) as caught:
        parse(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("-0.02", -0.02),
        ("+0.5", 0.5),
        ("−0.02 (lower is better)", -0.02),
        ("about -1e-3", -0.001),
        ("`-0.02`", -0.02),
        ("-3%", None),
        ("-0.01 to -0.02", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("better", None),
        ("", None),
        ("-2.5%", None),
        ("-0.01..-0.02", None),
        ("-0.01 -> 0.5", None),
        ("1.2.3", None),
        (".5", 0.5),
        ("-1.", -1.0),
        ("from 1.5 to 1.4, so -0.1", None),
        ("-0.05 (from 1.5 to 1.45)", -0.05),
    ],
)
def test_the_expected_change_is_one_plain_number(said: str, number: float | None) -> None:
    """A percentage, a range or a word is no number of the metric's units."""
    assert parse(ONE.replace("expect: -0.1", f"expect: {said}")).expect == number


def test_an_exact_place_is_found_among_lookalikes() -> None:
    """Whole lines count: `LR = 0.1` does not stand in `MIN_LR = 0.1`."""
    assert new(put("LR = 0.1\n", "LR = 1\n")) == FILE.replace("\nLR = 0.1", "\nLR = 1")


def test_trailing_space_is_no_difference() -> None:
    """Models drop and add blanks at line ends."""
    assert new(put("LR = 0.1  \nMIN_LR = 0.1\t\n", "A = 1\n")).count("A = 1\n") == 1
    assert new(put("a\nb\n", "c\n", "a  \nb \nd\n")) == "c\nd\n"


@pytest.mark.parametrize("shift", ["", "  "])
def test_a_uniform_shift_of_indent_is_undone(shift: str) -> None:
    """A block with one indent less or more on all its lines applies, and so do its new lines."""
    search, replace = "if x:\n    y = x * 2\n", "if x:\n    y = x * 3\n\n    y += 1\n"
    search, replace = textwrap.indent(search, shift), textwrap.indent(replace, shift)
    found = new(put(search, replace))
    assert found == FILE.replace("        y = x * 2\n", "        y = x * 3\n\n        y += 1\n")


def test_an_uneven_shift_is_no_shift() -> None:
    """Lines that are shifted by different indents stand nowhere."""
    assert put("if x:\n  y = x * 2\n", "pass\n").mismatches
    assert put("\tif x:\n        y = x * 2\n", "pass\n").mismatches


@pytest.mark.parametrize("text", ["a\nb\na\n", "a  \nb\na\n", "  a\nb\n    a\n", "a\n" * 3])
def test_two_places_are_none(text: str) -> None:
    """What stands in several places is never changed in one of them."""
    found = put("a\n", "c\n", text if text != "a  \nb\na\n" else "a  \nb\na \n")
    assert not found.edits
    assert "several places" in found.mismatches[0].why


@pytest.mark.parametrize(
    "search",
    [
        "def loss(x):\n    if x:\n        y = x * 3\n        return y\n",
        "DEF LOSS(X):\n",
        "def  loss(x):\n",
        "def loss(x): ...\n",
        "LR = 0.10\n",
        "R = 0.1\n",
        "return y\nreturn 0\n",
        "import math\nLR = 0.1\n",
        "\n\n",
        "",
    ],
)
def test_likeness_is_not_enough(search: str) -> None:
    """A text that almost stands there is a mismatch: nothing is ever put where it was not asked to go."""
    found = put(search, "pass\n")
    assert not found.edits
    assert len(found.mismatches) == 1


def test_a_mismatch_shows_the_nearest_lines() -> None:
    """The agent sees what stands there really, with its line, and whether it may edit it."""
    mismatch = put("    if x:\n        y = x * 3\n", "pass\n").mismatches[0]
    assert "stands nowhere in train.py" in mismatch.why
    assert mismatch.line == 8
    assert "y = x * 2" in mismatch.nearest
    files = {"train.py": FILE.encode()}
    assert "in your surface" in mismatch.told(ALL, files)
    assert "in your surface" in mismatch.told(Surface.of(["train.py::loss"]), files)
    assert "outside your surface" in mismatch.told(Surface.of(["train.py::LR"]), files)


def test_a_mismatch_is_short_for_a_long_file() -> None:
    """What is shown of one mismatch is bounded, and so is their number."""
    text = "".join(f"value_{n} = {'x' * 500}\n" for n in range(3000))
    wanted = text.replace("xx", "xy")
    found = apply(answer(*[Block("train.py", wanted, "")] * 20), {"train.py": text.encode()})
    assert len(found.mismatches) == 3
    assert len(found.mismatches[0].nearest) < 40_000


def test_line_ends_and_the_end_of_a_file_are_kept() -> None:
    """A CRLF file stays one, and a file without a last line break too."""
    assert new(put("b\n", "B\nC\n", "a\r\nb\r\nd\r\n")) == "a\r\nB\r\nC\r\nd\r\n"
    assert new(put("b\n", "B\n", "a\nb")) == "a\nB"
    assert new(put("a\n", "", "a\nb\n")) == "b\n"
    assert new(put("a\n", "", "a\n")) == ""


def test_other_line_breaks_are_text() -> None:
    """Form feeds and Unicode's line separators split no line."""
    text = "a = 'x\x0cy\u0085z'\nb = 1\n"
    assert new(put("b = 1\n", "b = 2\n", text)) == text.replace("1", "2")


def test_all_or_nothing() -> None:
    """One block that doesn't fit stops them all."""
    good, bad = Block("train.py", "LR = 0.1\n", "LR = 1\n"), Block("lib/net.py", "HEIGHT = 8\n", "")
    with pytest.raises(EditError, match=r"stands nowhere in lib/net\.py"):
        edits_of(answer(good, bad), FILES, ALL)


def test_what_is_no_text_or_is_not_there() -> None:
    """Searching in a binary or a missing file is told."""
    files = {"a.bin": b"\xff\xfe\x00"}
    assert "no text" in apply(answer(Block("a.bin", "x\n", "y\n")), files).mismatches[0].why
    assert "no file" in apply(answer(Block("b.py", "x\n", "y\n")), files).mismatches[0].why
    assert "no file" in apply(answer(Block("b.py", None, None)), files).mismatches[0].why
    twice = answer(Block("train.py", None, None), CHANGE)
    assert "no file" in apply(twice, FILES).mismatches[0].why


@pytest.mark.parametrize(
    "path",
    [
        "../x.py", "a/../../x.py", "/etc/passwd", ".git/config", ".GIT/config", "a/.git/hooks/x", ".gitmodules",
        ".Gitattributes", "a//b.py", "a/./b.py", ".", "a\\b.py", "..\\x.py", "git~1/config", "a/..", "x\u202ey.py",
        "a b\x00.py", "C:\\x.py", "-rf", "~/x.py", "$HOME/x.py",
    ],
)  # fmt: skip
def test_unsafe_paths_are_never_written(path: str) -> None:
    """Whatever a block calls its file, nothing lands outside the tree or where git looks."""
    for found in (Block(path, None, "x = 1\n"), Block(path, "", "x = 1\n")):
        assert path not in apply(answer(found), {}).edits or not set(path) & set("/\\.~$\x00\u202e")
    text = HEAD + f"{path}\n<<<<<<< FILE\nx = 1\n>>>>>>> FILE\n"
    try:
        edits = edits_of(parse(text), {}, ALL)
    except EditError:
        return
    assert all(part not in ("", ".", "..") and ".git" not in part.lower() for p in edits for part in p.split("/"))
    assert all(p.isascii() and not p.startswith(("/", "~", "-", "$")) for p in edits)


TAGS = ["hypothesis", "parameter", "invoke", "function_calls", "function_results", "tool_call", "tool_use", "think"]
TAGS += ["thinking", "scratchpad", "answer", "antml:invoke", "xai:function_call"]
LEAKS = [f"<{slash}{tag}>" for tag in TAGS for slash in ("", "/")]
LEAKS += ['<parameter name="title">', '<INVOKE NAME="edit">', "<|im_end|>", "<|im_start|>", "<|endoftext|>", "[/INST]"]
LEAKS += ["<｜tool▁calls▁begin｜>", "*** Begin Patch", "[TOOL_CALLS]", '{"name": "edit", "arguments"']
NESTED = ["<|im_<|im_end|>end|>", "</thi</think>nk>", "<<think>think>"]


@pytest.mark.parametrize("leak", LEAKS + NESTED)
def test_leaked_markup_never_reaches_title_or_why(leak: str) -> None:
    """What one format leaves in another is taken out of the prose, also where taking it out makes more of it."""
    found = parse(
        ONE.replace("change it", f"change it {leak}").replace("because", f"{leak} because\nmore {leak} of it")
    )
    for text in (found.title, found.why):
        assert leak not in text
        assert not answers.LEAK.search(text)
    assert found.title.startswith("change it")
    assert "because" in found.why


@pytest.mark.parametrize("leak", LEAKS)
def test_leaked_markup_never_reaches_a_file(leak: str) -> None:
    """A block whose new text holds such markup is refused, whole files too, unless the file held it before."""
    for found in (Block("train.py", "LR = 0.1\n", f"LR = 0.2  # {leak}\n"), Block("new.md", None, f"{leak}\n")):
        applied = apply(answer(found), FILES)
        assert not applied.edits
        assert "markup" in applied.mismatches[0].why
    held = {"train.py": f"{FILE}# {leak}\n".encode()}
    again = apply(answer(Block("train.py", f"# {leak}\n", f"# {leak} x\n")), held)
    assert again.edits


@pytest.mark.parametrize("plain", ["x = a < b > c", "t: list[int]", "a <= think >= b", "'<b>'", "x[/2]", "notes = 1"])
def test_plain_code_is_no_markup(plain: str) -> None:
    """Comparisons, generics and HTML of other kinds pass."""
    assert not apply(answer(Block("a.txt", None, f"{plain}\n")), {}).mismatches


@pytest.mark.parametrize("char", ["\u202e", "\u200b", "\x1b", "\x00", "\u2066", "\ufeff"])
def test_characters_that_nobody_sees_never_reach_a_file(char: str) -> None:
    """Bidirectional controls and escapes make code read other than it runs."""
    found = apply(answer(Block("train.py", "LR = 0.1\n", f"LR = 0.2  # {char}\n")), FILES)
    assert "nobody sees" in found.mismatches[0].why


@pytest.mark.parametrize(
    "source", [b"def f(:\n", b"x = \x00\n", b"# coding: nonsense\nx = 1\n", b"\xff = 1\n", b"  x = 1\n", b"(" * 5000]
)
def test_python_that_does_not_parse_is_told(source: bytes) -> None:
    """A file that can't run is no trial; whatever the parser raises is one sentence."""
    assert "does not parse" in broken({"a.py": source})["a.py"]
    assert not broken({"a.txt": source, "b.py": None, "c.py": b"x = '\\d'\n"})


def test_a_file_that_is_too_large_is_told() -> None:
    """The bound holds for what comes of the blocks, not only for the answer."""
    assert "larger" in broken({"a.txt": b"x" * ((1 << 20) + 1)})["a.txt"]


def test_edits_are_checked_as_a_whole() -> None:
    """No change, a change outside the surface and broken Python are each told to the agent."""
    for found, words in (
        (Block("train.py", "LR = 0.1\n", "LR = 0.1\n"), "changes nothing"),
        (Block("lib/net.py", "WIDTH = 8\n", "WIDTH = 9\n"), "outside the surface"),
        (Block("train.py", "LR = 0.1\n", "LR = (\n"), "does not parse"),
    ):
        with pytest.raises(EditError, match=words):
            edits_of(answer(found), FILES, Surface.of(["train.py"]))


def test_a_file_that_does_not_parse_is_told_once() -> None:
    """Where it can't be compared with what it was because it doesn't parse, that is one fault, with its line."""
    with pytest.raises(EditError) as caught:
        edits_of(answer(Block("train.py", "LR = 0.1\n", "LR = (\n")), FILES, Surface.of(["train.py::LR"]))
    assert str(caught.value) == "train.py does not parse: '(' was never closed (line 3)"


def seconds(work: Callable[[int], object], n: int) -> float:
    """The least of three times, in CPU seconds: other processes don't count."""
    times = []
    for _ in range(3):
        began = time.thread_time()
        work(n)
        times.append(time.thread_time() - began)
    return min(times)


def tried(text: str) -> object:
    """Parse and apply, whatever comes of it."""
    try:
        return apply(parse(text), FILES)
    except EditError as error:
        return error


def searched(search: str, text: str) -> object:
    """One block applied to one large file."""
    return apply(answer(Block("a.txt", search, "x\n")), {"a.txt": text.encode()})


HOSTILE: list[Callable[[int], object]] = [
    lambda n: tried(HEAD + "train.py\n" + "<<<<<<< SEARCH\n" * n),
    lambda n: tried(HEAD + "train.py\n<<<<<<< SEARCH\n" + "=======\n" * n + ">>>>>>> REPLACE\n"),
    lambda n: tried(HEAD + ">>>>>>> REPLACE\n" * n + ONE),
    lambda n: tried("title: x" + " " * 20 * n + "\n" + ONE),
    lambda n: tried("title: x\nwhy:" + "\n" * 20 * n + ONE),
    lambda n: tried("title: x\nwhy: " + "<think" * 8 * n + "\n" + ONE),
    lambda n: tried("title: x\nwhy: " + "</t" * n + "think>" * n + "\n" + ONE),
    lambda n: tried("title: x\nwhy: " + '{"name":' * 5 * n + "\n" + ONE),
    lambda n: tried("<think>" * 8 * n + ONE),
    lambda n: tried("title: x\nexpect: " + "1" * 40 * n + "\n" + ONE),
    lambda n: tried(HEAD + "a/" * 20 * n + "\n" + ONE),
    lambda n: tried(HEAD + "`" * 20 * n + "\n" + ONE),
    lambda n: tried(HEAD + "*_#`" * 5 * n + "title\n" + ONE),
    lambda n: searched("a\n" * n + "b\n", "a\n" * 2 * n),
    lambda n: searched("  a\n" * n + "  b\n", "a\n" * 2 * n),
    lambda n: searched("a b c d e f\n" * n, "f e d c b a\n" * n),
    lambda n: searched(" " * 20 * n + "x\n", (" " * 20 * n + "y\n")),
]


@pytest.mark.parametrize("work", HOSTILE)
def test_hostile_text_costs_no_square_of_its_length(work: Callable[[int], object]) -> None:
    """Four times the text takes about four times as long, not sixteen."""
    assert seconds(work, 10_000) < 10 * seconds(work, 2_500) + 0.05


WORD = st.sampled_from(["a = 1", "b = 2", "  a = 1", "    c", "", "x", "title: y", "```", "  ", "=", "<b>"])


@given(st.lists(WORD, min_size=1, max_size=12), st.data(), st.booleans(), st.booleans())
def test_what_is_written_as_blocks_comes_out_as_meant(
    lines: list[str], data: st.DataObject, crlf: bool, last: bool
) -> None:
    """For any file and any run of lines that stands in it once, the block of its replacement gives the file expected;
    where it stands twice, nothing."""
    text = "".join(f"{line}\n" for line in lines)
    text = text if last else text.removesuffix("\n")
    start = data.draw(st.integers(0, len(lines) - 1))
    end = data.draw(st.integers(start + 1, len(lines)))
    fresh = data.draw(st.lists(WORD, max_size=4))
    wanted = lines[start:end]
    places = [at for at in range(len(lines)) if lines[at : at + len(wanted)] == wanted]
    search = "".join(f"{line}\n" for line in wanted)
    replace = "".join(f"{line}\n" for line in fresh)
    fenced = any(len(part) > 1 and part[0] == part[-1] == "```" for part in (wanted, fresh))
    said = parse(HEAD + block("notes.md" if fenced else "f.txt", search, replace)).blocks[0]
    assert (said.search, said.replace) == (search, replace)
    disk = text.replace("\n", "\r\n") if crlf else text
    found = apply(answer(Block("f.txt", said.search, said.replace)), {"f.txt": disk.encode()})
    if not text:
        return  # an empty file takes any text as its whole
    if not any(line.strip() for line in wanted) or len(places) > 1:
        assert not found.edits
        return
    assert len(places) == 1
    if not last and not lines[-1]:
        return  # the last line is empty and has no line break: the file ends one line before
    kept = [*lines[:start], *fresh, *lines[end:]]
    expected = "\n".join(kept) + ("\n" if last and kept else "")
    assert new(found, "f.txt") == (expected.replace("\n", "\r\n") if crlf and "\n" in text else expected)


@given(st.text(alphabet=st.sampled_from("<>=SEARCHREPLACEFILE \ntitle:why./`#*\r\ud800"), max_size=300))
def test_no_text_escapes_as_another_error(text: str) -> None:
    """Whatever is said, it is an answer or an EditError."""
    tried(text)
    tried(HEAD + text)
    tried(ONE + text)
