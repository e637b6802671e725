"""Seeds one after another: what a look ends, what it passes, and how often it errs."""

import random
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean

import pytest

from gitresearch import drift
from gitresearch.decision import Reference, Verdict, claim, claimable, purposes, shortfall, verdict
from gitresearch.noise import Spread
from gitresearch.outcome import Outcome, Run, summarise
from gitresearch.study import Seeds, Study
from tests.test_decision import STUDY

Draw = Callable[[], tuple[float, float]]  # loss and accuracy of a run
NOISE = {"loss": Spread(0.1, 4), "accuracy": Spread(0.01, 4)}
REFERENCE = Reference("head 12345678", 2.0, 3, NOISE)


def run(purpose: str, loss: float, accuracy: float = 1.0) -> Run:
    return Run(seed=1, purpose=purpose, status="ok", metrics={"loss": loss, "accuracy": accuracy})


def assessed(draw: Draw, reference: Reference = REFERENCE, study: Study = STUDY) -> tuple[Verdict, list[str]]:
    """The verdict on a trial, and the purposes of the runs that it took."""
    done: list[Run] = []
    for purpose in purposes(study, "improve", done, reference):
        done.append(run(purpose, *draw()))
    return verdict(study, done, reference), [one.purpose for one in done]


def seeds(**more: int) -> Study:
    return replace(STUDY, seeds=replace(Seeds(), **more))


def test_a_mean_inside_a_gate_is_not_enough() -> None:
    """Where the bound misses, more seeds run up to the most; then the trial is disqualified, by its bound."""
    found, made = assessed(lambda: (1.8, 0.902))
    assert made == ["screen", *["head"] * 5]
    assert (found.status, found.label) == ("disqualified", "gate")
    assert found.reason.startswith("accuracy is 0.902, for sure only 0.8")
    facts = found.arithmetic
    assert (facts["gate_1"], facts["gate_1_value"], facts["gate_1_n"]) == ("accuracy ≥ 0.9", pytest.approx(0.902), 5)
    assert facts["gate_1_bound"] < 0.9
    runs = tuple(run(purpose, 1.8, 0.902) for purpose in made)
    told = Outcome(summarise("disqualified", "loss", runs, ""), runs, decision=facts)
    assert shortfall(STUDY, told) == pytest.approx((0.9 - facts["gate_1_bound"]) / 0.9)


def test_a_gate_on_each_run_leaves_room_for_the_next() -> None:
    """Its worst run counts, and the bound of one more: no further seed is spent on it, and one run outside misses."""
    each = replace(STUDY, gates=(replace(STUDY.gates[0], each=True),), seeds=Seeds(head=2, gate=2))
    found, made = assessed(lambda: (1.8, 0.91), study=each)
    assert made == ["screen", "head", "head"]
    assert (found.status, found.label) == ("disqualified", "gate")
    assert found.arithmetic["gate_1_bound"] == pytest.approx(0.91 - 2.015 * 0.01 * 0.894 * 1.5**0.5, abs=1e-3)
    assert assessed(lambda: (1.8, 0.95), study=each)[0].status == "keep"
    values = iter([0.95, 0.99, 0.89])
    missed, _ = assessed(lambda: (1.8, next(values)), study=each)
    assert missed.status == "disqualified"
    assert missed.reason.startswith("accuracy is 0.89, and")


def test_seeds_end_as_soon_as_the_bound_passes() -> None:
    """One that lies well inside needs no seed more than any keep; one close to the limit, some."""
    assert assessed(lambda: (1.8, 0.95)) == (assessed(lambda: (1.8, 0.95))[0], ["screen", "head", "head"])
    found, made = assessed(lambda: (1.8, 0.919))
    assert found.status == "keep"
    assert 3 < len(made) < 6


def test_a_gate_costs_no_seed_where_the_score_is_no_better() -> None:
    """It is discarded all the same."""
    losses = iter([1.8, 1.9, 2.2])
    found, made = assessed(lambda: (next(losses), 0.902))
    assert (found.status, len(made)) == ("discard", 3)


def test_without_noise_a_gate_is_its_mean() -> None:
    """A metric that every seed gives the same passes by a hair, or misses by one."""
    sure = Reference("head", 2.0, 3, NOISE | {"accuracy": Spread(0.0, 4)})
    assert assessed(lambda: (1.8, 0.9), sure) == (assessed(lambda: (1.8, 0.9), sure)[0], ["screen", "head", "head"])
    assert assessed(lambda: (1.8, 0.9), sure)[0].status == "keep"
    assert assessed(lambda: (1.8, 0.8999), sure)[0].status == "disqualified"


def test_a_gate_may_count_its_mean() -> None:
    """`gate_alpha = 0.5`: where the task's own rule says so, the mean decides, at once, without a spread too."""
    study = replace(STUDY, decision=replace(STUDY.decision, gate_alpha=0.5))
    for noise in (NOISE, {}):
        reference = Reference("head", 2.0, 3, noise)
        found, made = assessed(lambda: (1.8, 0.9), reference, study)
        assert (found.status, len(made), found.arithmetic["gate_1_bound"]) == ("keep", 3, 0.9)
        assert assessed(lambda: (1.8, 0.8999), reference, study)[0].status == "disqualified"


def test_the_published_rule_counts_means_and_all_seeds() -> None:
    """`strict-improvement`: no bound, no look."""
    study = seeds(screen=3)
    study = replace(study, decision=replace(study.decision, rule="strict-improvement"))
    losses = iter([9.0, 1.0, 1.0, 5.0, 1.0, 0.0])
    found, made = assessed(lambda: (next(losses), 0.9001), study=study)
    assert (found.status, made) == ("discard", ["screen"] * 3)
    found, _ = assessed(lambda: (next(losses), 0.9001), study=study)
    assert (found.status, found.confirmed) == ("discard", False)
    found, _ = assessed(lambda: (1.99, 0.9001), study=study)
    assert (found.status, found.confirmed) == ("keep", True)


def test_a_hopeless_trial_costs_one_seed() -> None:
    """Not ten: by its score, or by a gate."""
    study = seeds(screen=10, head=10)
    assert assessed(lambda: (2.6, 1.0), study=study)[1] == ["screen"]
    assert assessed(lambda: (1.0, 0.8), study=study)[1] == ["screen"]
    losses = iter([1.0, 2.6])
    found, made = assessed(lambda: (next(losses), 1.0), study=study)
    assert (found.status, made) == ("discard", ["screen", "head"])
    assert (found.arithmetic["look_n"], found.arithmetic["look_most"]) == (1, 10)
    assert found.arithmetic["look_p"] < found.arithmetic["look_level"] == 0.05 / 9
    assert "1 fresh seed did not bear it out, and 10 would not have" in found.reason


def test_a_keep_is_never_made_early() -> None:
    """However good its first fresh seed is, a score is the mean of as many as the study asks for."""
    assert assessed(lambda: (0.1, 1.0), study=seeds(screen=3, head=4))[1] == ["screen", *["head"] * 4]


def test_no_looks_where_none_are_asked_for() -> None:
    """`stop_alpha = 0` runs all seeds."""
    study = seeds(screen=4)
    study = replace(study, decision=replace(study.decision, stop_alpha=0.0))
    assert assessed(lambda: (9.0, 1.0), study=study)[1] == ["screen"] * 4


def noisy(rng: random.Random, loss: float, accuracy: float) -> tuple[Draw, Reference]:
    """A trial with this truth in noise of 0.1 and 0.01, and what a baseline of five seeds knows of that."""
    draw = lambda: (rng.gauss(loss, 0.1), rng.gauss(accuracy, 0.01))  # noqa: E731
    known = {
        name: Spread(sd * (rng.gammavariate(2, 2) / 4) ** 0.5, 4) for name, sd in (("loss", 0.1), ("accuracy", 0.01))
    }
    return draw, Reference("head", 2.0, 3, known)


def test_how_often_a_gate_errs() -> None:
    """Of 2,000 good trials that truly lie at the limit at most one in twenty passes; well inside nearly all do."""
    rng = random.Random(2)
    edge = [assessed(*noisy(rng, 0.0, 0.9))[0].status == "keep" for _ in range(2000)]
    inside = [assessed(*noisy(rng, 0.0, 0.95))[0].status == "keep" for _ in range(200)]
    assert fmean(edge) <= 0.05
    assert fmean(inside) > 0.97


def test_how_often_a_look_gives_up_what_is_as_good() -> None:
    """Of 2,000 trials as good as what they are compared with, at most one in twenty loses its last seeds at either
    stage; one that is worse by five σ nearly always does."""
    rng, study = random.Random(4), seeds(screen=5)
    equal = [assessed(*noisy(rng, 2.0, 1.0), study)[1] for _ in range(2000)]
    lost = [made for made in equal if "head" not in made and len(made) < 5]
    worse = [assessed(*noisy(rng, 2.5, 1.0), study)[1] for _ in range(200)]
    assert len(lost) / len(equal) <= 0.05
    assert fmean(len(made) for made in worse) < 2.0


def test_what_is_said_of_a_baseline_that_ran_again() -> None:
    """Against the mean of its seeds, by their spread and that of the looks before; without noise any change is one."""
    seeds = [run("baseline", 2.0 + d) for d in (-0.1, 0.0, 0.1)]
    assert drift.facts(STUDY, seeds) == {}
    found = drift.facts(STUDY, [*seeds, run("drift", 2.3)])
    assert (found["drift_verdict"], found["drift_z"]) == ("steady", pytest.approx(0.3 / (0.1 * (4 / 3) ** 0.5)))
    assert drift.facts(STUDY, [*seeds, run("drift", 3.2)])["drift_verdict"] == "moved"
    after = drift.facts(STUDY, [*seeds, *(run("drift", x) for x in (3.2, 3.21, 3.2))])
    assert (after["drift_verdict"], after["drift_n"]) == ("moved", 3)
    assert after["drift_z"] > drift.facts(STUDY, [*seeds, run("drift", 3.2)])["drift_z"]
    same = [run("baseline", 2.0)] * 3
    assert [drift.facts(STUDY, [*same, run("drift", x)])["drift_verdict"] for x in (2.0, 2.001)] == ["steady", "moved"]


def outcome(status: str, *runs: Run) -> Outcome:
    return Outcome(summarise(status, "loss", runs, "2026-01-01T00:00:00Z"), tuple(runs))


def test_a_claim_ends_early_only_for_a_head_that_is_worse() -> None:
    """All seeds, or a look that says so; never for one that is ahead."""
    spread = Spread(0.1, 8)
    assert [claimable(STUDY, -0.5, spread, (n, 5)) for n in (0, 1, 2, 5, 6)] == [False, True, True, True, False]
    assert [claimable(STUDY, 9.0, spread, (n, 5)) for n in (1, 4, 5)] == [False, False, True]


def test_a_claim_passes_the_gates_on_its_own_seeds() -> None:
    """A head that is better and not surely inside is undecided; outside, it is rolled back."""
    baseline = outcome("baseline", *(run("baseline", 2.0 + d) for d in (0.01, -0.01, 0.0)))
    told = {}
    for accuracy in (0.95, 0.903, 0.89):
        runs = [run("head", 1.0), *(run("confirm", 1.0 + d, accuracy) for d in (0.01, -0.01))]
        found = claim(STUDY, outcome("keep", *runs), baseline, [], 1, NOISE)
        told[accuracy] = (found.status, found.confirmed, found.arithmetic["claim_verdict"])
        assert found.arithmetic["claim_gate_1_n"] == 2
    assert told == {
        0.95: ("keep", True, "confirmed"),
        0.903: ("keep", False, "undecided"),
        0.89: ("discard", False, "rolled back"),
    }


def test_a_claim_outside_a_gate_is_rolled_back_however_its_scores_look() -> None:
    """A head whose own seeds miss the gate goes even where nothing sure can be said of its gain."""
    baseline = outcome("baseline", *(run("baseline", 2.0 + d) for d in (0.5, -0.5, 0.0)))
    runs = [run("head", 1.0), *(run("confirm", 1.9 + d, 0.89) for d in (0.4, -0.4))]
    found = claim(STUDY, outcome("keep", *runs), baseline, [], 1, NOISE)

    assert (found.status, found.arithmetic["claim_verdict"]) == ("discard", "rolled back")
    assert found.reason.startswith("rolled back: accuracy is 0.89")
