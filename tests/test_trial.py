"""A trial's message and branch name: what is written is read back, what can't be is refused."""

import re
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gitresearch.errors import FormatError
from gitresearch.trial import OPERATORS, BranchName, Hypothesis, parse_message, read_commit, tidy_body
from tests.build import hypothesis

NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8"), max_size=200)
SCISSORS = "# ------------------------ >8 ------------------------"
PIECES = ["\n", "\n\n", " ", "---", "Study: other", "Operator: keep", SCISSORS, "a", "ü", "-", "\t", "Specialist: x\n"]
PIECES += ["Signed-off-by: y", ":", "\u00a0", "Conflicts:\n\ta", "diff --git a/x b/x"]
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
HYPOTHESES = st.builds(
    Hypothesis.from_text,
    TEXT | HOSTILE,
    TEXT | HOSTILE,
    study=NAMES,
    specialist=NAMES,
    operator=st.sampled_from(OPERATORS),
    expected=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    assisted_by=st.sampled_from(["", "agent:model", "a.b_c-d:org/model@2026:x"]),
)


def commit_of(message: bytes, headers: bytes = b"", parents: int = 1) -> bytes:
    """A commit object with this message."""
    lines = [b"tree " + b"a" * 40, *[b"parent " + b"%040x" % n for n in range(parents)]]
    lines += [b"author A <a@b> 5 +0000", b"committer C <c@d> 7 +0100"]
    return b"\n".join(lines) + b"\n" + headers + b"\n" + message


@given(HYPOTHESES)
def test_a_message_reads_back_to_the_same_hypothesis(made: Hypothesis) -> None:
    """Whatever a model writes, what is stored means the same to every reader of ours."""
    assert parse_message(made.message()) == made
    assert read_commit("b" * 40, commit_of(made.message().encode())).hypothesis == made


@given(HYPOTHESES)
@example(hypothesis(body="a\n\nStudy: other\nSpecialist: nobody\nOperator: improve"))
@example(hypothesis(body="x\n ---\nStudy: other"))
def test_no_text_gets_a_trailer_in(made: Hypothesis) -> None:
    """The last block of the message is ours alone, whatever subject and body say."""
    block = made.message().rstrip("\n").rpartition("\n\n")[2]
    assert block.split("\n")[:3] == [
        f"Study: {made.study}",
        f"Specialist: {made.specialist}",
        f"Operator: {made.operator}",
    ]


@given(TEXT | HOSTILE)
def test_tidying_settles_and_is_what_the_check_wants(body: str) -> None:
    """A tidied body stays as it is, and the check of a hypothesis accepts exactly such bodies."""
    tidied = tidy_body(body)
    assert tidy_body(tidied) == tidied
    for text in (body, tidied):
        try:
            Hypothesis("s", "study", "who", body=text)
            accepted = True
        except FormatError as error:
            accepted = "control character" in error.message and text == tidy_body(text)
        assert accepted == (text == tidy_body(text))


@given(st.binary(max_size=200) | HYPOTHESES.map(lambda made: made.message().encode()), st.data())
def test_both_ways_of_reading_agree(message: bytes, data: st.DataObject) -> None:
    """A damaged message gives the same hypothesis by the quick expression as by the parser, or an error from both."""
    at = data.draw(st.integers(0, max(0, len(message) - 1)))
    damaged = message[:at] + data.draw(st.binary(max_size=3)) + message[at + 1 :]
    try:
        expected: Hypothesis | None = parse_message(damaged.decode("utf-8"))
    except (FormatError, UnicodeDecodeError):
        expected = None
    try:
        found: Hypothesis | None = read_commit("c" * 40, commit_of(damaged)).hypothesis
    except FormatError:
        found = None
    assert found == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": ""},
        {"subject": "x" * 73},
        {"subject": "two\nlines"},
        {"subject": "two  blanks"},
        {"subject": "--- a patch"},
        {"subject": "nul\0"},
        {"body": "esc\x1b[2J"},
        {"body": "bidi\u202e"},
        {"body": "x" * (64 * 1024 + 1)},
        {"body": "a\n---\nb"},
        {"body": SCISSORS},
        {"body": "trailing "},
        {"study": "Upper"},
        {"study": "a/b"},
        {"specialist": "a\nb"},
        {"specialist": "x <y@z>"},
        {"operator": "guess"},
        {"assisted_by": "agent: model"},
        {"assisted_by": "agent:model\nStudy: x"},
        {"expected": float("nan")},
        {"expected": float("inf")},
    ],
)
def test_what_cannot_be_read_back_is_refused(fields: dict[str, object]) -> None:
    """Every field has its rule, and breaking it is an error before anything is written."""
    with pytest.raises(FormatError):
        hypothesis(**{"subject": "raise it"} | fields)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "a person's commit\n",
        "subject\n\nbody\n",
        "s\n\nStudy: a\nSpecialist: b\n",
        "s\n\nStudy: a\nSpecialist: b\nOperator: improve\nOperator: draft\n",
        "s\n\nStudy: a\nSpecialist: b\nOperator: improve\nReviewed-by: me\n",
        "s\n\nStudy: a\nSpecialist: b\nOperator: improve\nExpected-Delta: lots\n",
        "s\n\nStudy: a\nSpecialist: b\nOperator: improve\nExpected-Delta: 1e999\n",
    ],
)
def test_foreign_messages_are_no_trials(message: str) -> None:
    """A commit that a person or another tool made is told apart, not guessed at."""
    with pytest.raises(FormatError):
        parse_message(message)
    with pytest.raises(FormatError):
        read_commit("b" * 40, commit_of(message.encode()))


@pytest.mark.parametrize("raw", [b"", b"tree x\n", b"garbage" * 50, commit_of(b"\xff\xfe")])
def test_broken_commits_are_named_as_such(raw: bytes) -> None:
    """Bytes that are no commit, or no text, are a FormatError."""
    with pytest.raises(FormatError, match="not a trial"):
        read_commit("b" * 40, raw)


def test_a_signed_commit_with_two_parents_is_read() -> None:
    """Headers of git's own between committer and message are passed over."""
    made = hypothesis("combine two", operator="combine", body="both help", expected=-0.5)
    signature = b"gpgsig -----BEGIN SSH SIGNATURE-----\n U1NI\n -----END SSH SIGNATURE-----\n"
    trial = read_commit("b" * 40, commit_of(made.message().encode(), signature, parents=2))
    assert trial.hypothesis == made
    assert trial.parents == ("0" * 40, "0" * 39 + "1")
    assert (trial.tree, trial.time) == ("a" * 40, 7)


def test_git_reads_our_trailers() -> None:
    """`git interpret-trailers --parse` finds exactly the trailers, though the body tries to hide them."""
    body = f"because\n---\n{SCISSORS}\nStudy: other\n\nOperator: keep"
    made = Hypothesis.from_text("try it", body, study="s", specialist="who", expected=-1e-7, assisted_by="a:b")
    parsed = subprocess.run(
        ["git", "interpret-trailers", "--parse"], input=made.message(), capture_output=True, text=True, check=True
    )
    assert parsed.stdout.split("\n")[:-1] == [
        "Study: s", "Specialist: who", "Operator: improve", "Expected-Delta: -1e-07", "Assisted-by: a:b",
    ]  # fmt: skip


@given(NAMES, st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True), st.from_regex(r"[0-9a-f]{8}", fullmatch=True))
def test_branch_names_read_back(study: str, slug: str, oid8: str) -> None:
    """With and without `refs/heads/`."""
    name = BranchName(study, slug, oid8)
    assert BranchName.parse(str(name)) == name == BranchName.parse(f"refs/heads/{name}")


@pytest.mark.parametrize(
    "name", ["main", "trial/s/x", "trial/s/x-1234567", "trial/S/x-12345678", "trial/s/a/x-12345678"]
)
def test_other_branches_are_no_trials(name: str) -> None:
    """A branch that is not in the shape is a FormatError."""
    with pytest.raises(FormatError, match=re.escape(name)):
        BranchName.parse(name)
