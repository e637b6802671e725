"""Whether a baseline moved: what chance says, and what a shift says."""

import random

from gitresearch import drift
from gitresearch.outcome import Run
from gitresearch.study import load

STUDY = load("""
name = "s"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[evaluator]
pattern = "loss: (.*)"
[[specialists]]
name = "one"
surface = ["train.py"]
""")


def verdict(seeds: int, looks: int, shift: float, rng: random.Random) -> str:
    """What the last of some drift runs says of a baseline of so many seeds, in standard deviations of a run."""
    purposes = ["baseline"] * seeds + ["drift"] * looks
    values = [rng.gauss(shift if purpose == "drift" else 0.0, 1.0) for purpose in purposes]
    runs = [Run(i, p, "ok", {"loss": value}) for i, (p, value) in enumerate(zip(purposes, values, strict=True))]
    return str(drift.facts(STUDY, runs)["drift_verdict"])


def test_chance_alone_seldom_says_that_it_moved() -> None:
    """About one look in a hundred, with four seeds as with eight: a night has some ten looks."""
    rng = random.Random(1)
    for seeds in (4, 8):
        moved = sum(verdict(seeds, 1, 0.0, rng) == "moved" for _ in range(2000))
        assert 8 <= moved <= 36


def test_a_shift_is_seen_once_a_few_looks_know_the_spread() -> None:
    """Ten standard deviations at the third look of a baseline of five seeds, nearly always."""
    rng = random.Random(1)
    assert sum(verdict(5, 3, 10.0, rng) == "moved" for _ in range(200)) > 180
