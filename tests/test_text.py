"""Cleaning hostile text: what is stored is safe, what is shown is visible."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitresearch.errors import FormatError
from gitresearch.text import clean, is_safe, one_line, printable, require_safe, slug, tokens

ANY = st.text(st.characters(codec=None), max_size=300)


@given(ANY)
def test_clean_text_is_safe_and_stays_as_it_is(text: str) -> None:
    """Cleaning takes out all that git or a terminal would choke on, and cleaning again changes nothing."""
    cleaned = clean(text)
    assert is_safe(cleaned)
    assert clean(cleaned) == cleaned


@given(ANY, st.integers(0, 40))
def test_clean_keeps_the_limit_in_bytes(text: str, limit: int) -> None:
    """A cut never leaves half a character."""
    assert len(clean(text, limit).encode("utf-8")) <= limit


@given(ANY)
def test_printable_text_is_safe(text: str) -> None:
    """What is shown drives no terminal."""
    assert is_safe(printable(text))


@given(ANY, st.integers(2, 80))
def test_one_line_is_one_line(text: str, limit: int) -> None:
    """It holds no line break and keeps its limit in characters."""
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line == " ".join(line.split())


@given(ANY)
def test_a_slug_is_fit_for_a_ref(text: str) -> None:
    """Lower-case letters, digits and single hyphens, never empty."""
    made = slug(text)
    assert made
    assert all(word.isalnum() and word.isascii() and word == word.lower() for word in made.split("-"))
    assert len(made) <= 40


@pytest.mark.parametrize("bad", ["a\0b", "a\x1b]0;title\x07", "a\u202eb", "\x9b31m", "\ud800", "\ufeff", "a\rb"])
def test_unsafe_text_is_refused_by_name(bad: str) -> None:
    """NUL, escapes, bidirectional overrides, C1 controls, surrogates and a byte order mark are named."""
    with pytest.raises(FormatError, match=r"the body holds the control character U\+"):
        require_safe(bad, "the body")


def test_text_over_the_limit_is_refused() -> None:
    """Bytes count, not characters."""
    with pytest.raises(FormatError, match="longer than 4 bytes"):
        require_safe("äää", "the body", 4)


def test_escape_sequences_go_as_a_whole() -> None:
    """A colour sequence leaves no `[31m` behind."""
    assert clean("\x1b[31mred\x1b[0m \x1b]8;;http://x\x07link") == "red link"


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("0.2538 0.1194 0.7731\n" * 20, 420),
        (" ".join(str(n % 10) for n in range(500)), 999),
        ("9f3ac01b77d2\n" * 50, 600),
        ("def forward(self, x: Tensor) -> Tensor:\n    return self.head(self.norm(x))\n" * 20, 500),
        ("The learning rate is too high for the last third of the run.\n" * 20, 300),
        ("", 0),
    ],
)
def test_tokens_are_estimated_close_to_a_tokenizer(text: str, counted: int) -> None:
    """Within a quarter of what SmolLM2's tokenizer counts, and hardly below it, numbers and code alike."""
    assert 0.94 * counted <= tokens(text) <= 1.25 * counted


@given(ANY, ANY)
def test_tokens_of_parts_bound_those_of_the_whole(first: str, second: str) -> None:
    """A text taken line by line under a limit keeps it as a whole."""
    assert tokens(first + "\n" + second) <= tokens(first) + tokens(second) + 1
