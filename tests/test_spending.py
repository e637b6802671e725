"""What proposals cost, out of notes that may hold anything."""

from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from gitresearch.agents import Usage
from gitresearch.lineage import Lineage, Node
from gitresearch.outcome import Summary
from gitresearch.spending import confirmed_gains, tally
from gitresearch.study import Objective
from gitresearch.trial import Hypothesis, Trial


def note(**fields: Any) -> bytes:
    """A proposals note of study `demo`."""
    usage = {"calls": 1, "tokens_in": 100, "tokens_out": 10, "dollars": 0.5}
    return tomli_w.dumps({"study": "demo", "specialist": "one", "usage": usage} | fields).encode()


def test_trials_and_failures_are_summed_by_specialist() -> None:
    """Every turn counts for the one who took it; another study's does not."""
    notes = {"a": note(), "b": note(failed="no"), "c": note(specialist="two"), "d": note(study="other")}
    found = tally(notes, "demo")

    assert {name: (spent.trials, spent.failed) for name, spent in found.specialists.items()} == {
        "one": (1, 1),
        "two": (1, 0),
    }
    assert (found.total.usage.tokens, found.total.usage.dollars) == (330, 1.5)
    assert (set(found.trials), found.unreadable) == ({"a", "c"}, 0)


@pytest.mark.parametrize(
    "usage",
    [{"tokens_in": -5}, {"tokens_in": 1e9}, {"tokens_in": True}, {"dollars": "1"}, {"dollars": float("inf")},
     {"dollars": -1.0}, {"tokens_in": 1 << 60}, {"else": 3}, {}],
)  # fmt: skip
def test_a_figure_that_is_none_counts_for_nothing(usage: dict[str, Any]) -> None:
    """Negative, infinite, of another type or beyond belief: a pushed note can't lift a cap or trip it."""
    assert tally({"a": note(usage=usage)}, "demo").total.usage == Usage()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_note_that_counts_or_an_unreadable_one(data: bytes) -> None:
    """A note in any state never ends the tally."""
    assert tally({"a": data}, "demo").unreadable in (0, 1)


@pytest.mark.parametrize(
    "data", [b"", b"a = [", b"specialist = 3\n[usage]\n", b"specialist = 'x'\nusage = 3\n", b"\xff"]
)
def test_an_unreadable_note_is_counted_as_such(data: bytes) -> None:
    """What isn't a proposal's note is said, not passed over."""
    assert tally({"a": data}, "demo").unreadable == 1


def test_gains_are_confirmed_on_the_way_to_the_best_alone() -> None:
    """Each step that `best` stands on counts for its specialist; a keep beside it doesn't."""
    steps = [("baseline", "0", "", 1.0), ("one", "1", "0", 0.8), ("two", "2", "1", 0.7), ("one", "3", "2", 0.65),
             ("two", "4", "0", 0.75)]  # fmt: skip
    lineage = Lineage(Objective("loss"))
    for time, (who, oid, parent, score) in enumerate(steps):
        hypothesis = Hypothesis("a change", "demo", who, operator="baseline" if who == "baseline" else "improve")
        trial = Trial(oid, oid, (parent,) if parent else (), time, hypothesis)
        status = "baseline" if who == "baseline" else "keep"
        lineage.put(Node(trial, Summary(status, "loss", score, 0.0, 1, oid == "3", 1.0, "", "", "")))

    assert confirmed_gains(lineage) == pytest.approx({"one": 0.25, "two": 0.1})
