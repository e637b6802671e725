"""An outcome's note: round trip, one quick and one thorough reader that agree, and nothing that is not finite."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitresearch.errors import FormatError
from gitresearch.outcome import STATUSES, Failure, Outcome, Run, Summary, summarise
from gitresearch.text import is_safe
from tests.build import outcome

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
# What a note holds has been through `one_line`: no character that nobody sees, an unassigned one among them.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp"]), max_size=60).filter(is_safe)
HEADS = st.builds(
    Summary,
    status=st.sampled_from(STATUSES),
    metric=st.sampled_from(["loss", "val_bpb", "größe", 'a"b']),
    score=st.none() | FLOATS,
    sd=FLOATS,
    n=st.integers(0, 999_999),
    confirmed=st.booleans(),
    seconds=FLOATS,
    at=st.just("2026-01-01T00:00:00Z"),
    label=TEXT,
    reason=TEXT,
)
RUNS = st.builds(
    Run,
    seed=st.integers(0, 2**31),
    purpose=st.sampled_from(["baseline", "screen", "head", "confirm"]),
    status=st.just("ok"),
    metrics=st.dictionaries(st.sampled_from(["loss", "a b", "ü"]), FLOATS, max_size=3),
    train_seconds=FLOATS,
)
TABLES = st.dictionaries(st.sampled_from(["rule", "p", "x y"]), TEXT | FLOATS | st.booleans(), max_size=3)
OUTCOMES = st.builds(
    Outcome,
    HEADS,
    st.lists(RUNS, max_size=3).map(tuple),
    st.none() | st.builds(Failure, TEXT, TEXT, st.lists(TEXT, max_size=3).map(tuple)),
    TABLES,
    TABLES,
    TABLES,
)


@given(OUTCOMES)
def test_a_note_reads_back_to_the_same_outcome(made: Outcome) -> None:
    """Whole, and its head alone by the quick expression."""
    note = made.note()
    assert Outcome.parse(note) == made
    assert Summary.parse(note) == made.summary


@given(OUTCOMES)
def test_the_first_line_is_one_safe_comment(made: Outcome) -> None:
    """What a person sees in `git log` is one line that drives no terminal."""
    first = made.note().decode().split("\n", 1)[0]
    assert first.startswith(f"# {made.summary.status}")
    assert is_safe(first)


@given(OUTCOMES, st.data())
def test_both_readers_agree_on_damaged_notes(made: Outcome, data: st.DataObject) -> None:
    """Where the quick expression takes a damaged note, the parser reads the same head from it, or nothing is taken."""
    note = made.note()
    at = data.draw(st.integers(0, len(note) - 1))
    damaged = note[:at] + data.draw(st.binary(max_size=2)) + note[at + 1 :]
    try:
        whole: Summary | None = Outcome.parse(damaged).summary
    except FormatError:
        whole = None
    try:
        quick: Summary | None = Summary.parse(damaged)
    except FormatError:
        quick = None
    # The head may be sound where a table below it is not: that is the quick reader's bargain.
    assert quick == whole or (whole is None and quick is not None)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\xff\xfe",
        b"a note by a person\n",
        b"# keep\nschema = 2\nstatus = \"keep\"\n",
        outcome().note().replace(b"score = 1.0", b"score = nan"),
        outcome().note().replace(b"score = 1.0", b"score = inf"),
        outcome().note().replace(b"score = 1.0", b"score = 1e999"),
        outcome().note().replace(b"score = 1.0", b"score = 1.2.3"),
        outcome().note().replace(b"score = 1.0", b'score = "1.0"'),
        outcome().note().replace(b'status = "discard"', b'status = "great"', 1),
        outcome().note().replace(b"n = 1\n", b"n = true\n", 1),
        outcome().note().replace(b'reason = ""', b'reason = "\x1b[2J"', 1),
        outcome().note().replace(b'reason = ""', b'reason = "\xff"', 1),
        b"[[" * 40_000,
    ],
)  # fmt: skip
def test_broken_notes_are_a_format_error(note: bytes) -> None:
    """Never a guess, never another exception."""
    with pytest.raises(FormatError):
        Summary.parse(note)
    with pytest.raises(FormatError):
        Outcome.parse(note)


@pytest.mark.parametrize("table", [b"[decision]\nreference", b"[[runs]]\ntrain_seconds"])
def test_a_whole_number_that_no_float_holds_is_refused(table: bytes) -> None:
    """Whoever compares it with a float would be ended by it: an audit, or `show`."""
    with pytest.raises(FormatError, match="more than 64 bits"):
        Outcome.parse(Outcome(outcome().summary).note() + b"\n" + table + b" = 1" + b"0" * 400 + b"\n")


@pytest.mark.parametrize("field", ["score", "sd", "seconds"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_not_written(field: str, value: float) -> None:
    """A comparison with nan decides wrongly without a sound."""
    fields: dict[str, Any] = {field: value}
    made = outcome(**fields)
    with pytest.raises(FormatError, match="not finite"):
        made.note()


def test_a_note_over_the_limit_is_not_written() -> None:
    """Logs belong elsewhere."""
    with pytest.raises(FormatError, match="must fit"):
        Outcome(outcome().summary, failure=Failure("train", "Long", ("x" * 70_000,))).note()


def test_fresh_runs_take_the_place_of_the_lucky_one() -> None:
    """The run that got a trial chosen does not enter its score once fresh seeds have run."""
    runs = [
        Run(1, "screen", "ok", {"loss": 0.1}),
        Run(2, "head", "ok", {"loss": 1.0}),
        Run(3, "head", "ok", {"loss": 3.0}),
    ]
    head = summarise("keep", "loss", runs, "2026-01-01T00:00:00Z")
    assert (head.score, head.n) == (2.0, 2)
    assert head.sd == pytest.approx(math.sqrt(2))
