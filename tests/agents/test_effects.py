"""What is learned of levers from few trials: which of them matter, and how sure that is."""

import math
import random

import pytest

from gitresearch.agents.offline.domain import Choice, Range
from gitresearch.agents.offline.effects import Effects, Similarity
from gitresearch.agents.offline.levers import Lever

NAMES = [f"L{number}" for number in range(30)]


def lever(name: str) -> Lever:
    return Lever(name, name, "train.py", 1, 0, 1, "0.5", 0.5, Range(0.0, 1.0))


LEVERS = {name: lever(name) for name in NAMES}


def settings(count: int, seed: int) -> list[dict[str, float]]:
    """A lineage's: most levers stand still in a trial, one or two are anywhere."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        moved = {name: rng.random() for name in rng.sample(NAMES, 2)}
        made.append({**dict.fromkeys(NAMES, 0.5), **moved})
    return made


def test_one_lever_that_matters_is_not_drawn_in_by_thirty_that_do_not() -> None:
    """A lever that moves the number by 300 between its ends is believed after four trials, where the others move it by
    some ten and a run's noise is fifty."""
    rng = random.Random(1)
    known = [{**one, "L0": 0.5} for one in settings(30, 2)] + [
        {**one, "L0": at} for one, at in zip(settings(4, 3), (0, 0, 1, 1), strict=True)
    ]
    numbers = [300 * (one["L0"] - 0.5) + 20 * (one["L1"] - 0.5) + rng.gauss(0, 30) for one in known]
    learned = Effects(Similarity(LEVERS), known, numbers, 60.0, [30.0] * len(known))
    ends = [learned.predict({**dict.fromkeys(NAMES, 0.5), "L0": at})[0] for at in (0.0, 1.0)]

    assert ends[1] - ends[0] == pytest.approx(300, rel=0.2)


def test_a_number_that_is_surer_counts_for_more() -> None:
    """Of two trials of the same settings, the mean of nine runs outweighs a single run."""
    here = dict.fromkeys(NAMES, 0.5)
    learned = Effects(Similarity(LEVERS), [here, dict(here)], [0.0, 1.0], 1.0, [0.9, 0.3])

    assert learned.predict(here)[0] == pytest.approx(0.9, abs=0.05)


def test_what_was_never_tried_is_less_sure() -> None:
    """The standard deviation where a trial ran is about that of its run, and far from all trials many times that."""
    learned = Effects(Similarity(LEVERS), settings(20, 4), [0.1 * n for n in range(20)], 1.0, [0.1] * 20)
    ran = learned.predict(settings(20, 4)[7])[1]
    far = learned.predict(dict.fromkeys(NAMES, 1.0))[1]

    assert ran < 0.15
    assert far > 10 * ran


def test_a_true_one_is_no_number_one() -> None:
    """Options of a choice are told apart by what they are, and a value that is none of them is like no option."""
    odd = Lever("x", "x", "train.py", 1, 0, 1, "1", 1, Choice((1, True, "1")))
    alike = Similarity({"x": odd})
    rows = alike.read([{"x": 1}, {"x": True}, {"x": "1"}, {"x": None}])

    assert [(row == 1).sum() for row in alike.between(rows, rows)[:, :, 0]] == [1, 1, 1, 1]


@pytest.mark.parametrize("wild", [1e9, -1e300, float("inf"), 10**400, None, "text", True], ids=lambda one: str(one)[:6])
def test_a_value_that_no_range_has_breaks_nothing(wild: object) -> None:
    """Other agents write what they like into a constant: what is learned of the rest stays finite."""
    known: list[dict[str, object]] = [
        {**one, "L3": wild} if n % 3 else {**one} for n, one in enumerate(settings(20, 5))
    ]
    learned = Effects(Similarity(LEVERS), known, [0.1 * n for n in range(20)], 1.0, [1e-6] * 20)  # type: ignore[arg-type]

    assert all(map(math.isfinite, learned.predict(known[1])))  # type: ignore[arg-type]
