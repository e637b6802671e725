"""The decision rule: what it computes, and by simulation what it lets through."""

import importlib.util
import math
import random
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import ModuleType

import pytest

from gitresearch.decision import (
    FRESH,
    Claimed,
    Reference,
    claim,
    counting,
    detectable,
    missed_gates,
    reproduced,
    share,
    shortfall,
    values,
    verdict,
    witnessed,
)
from gitresearch.noise import Spread, chi2_tail, pooled, sd_interval, t_above, t_tail
from gitresearch.outcome import Outcome, Run, summarise
from gitresearch.study import load

STUDY = load(
    """
name = "s"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[[gates]]
metric = "accuracy"
at_least = 0.9
[evaluator]
hook = "hook.py"
[[specialists]]
name = "opt"
surface = ["train.py"]
"""
)
NOISE = {"loss": Spread(0.1, 4), "accuracy": Spread(0.0, 4)}
REFERENCE = Reference("head 12345678", 2.0, 3, NOISE)


def run(purpose: str, loss: float, accuracy: float = 1.0) -> Run:
    return Run(seed=1, purpose=purpose, status="ok", metrics={"loss": loss, "accuracy": accuracy})


def outcome(status: str, *runs: Run) -> Outcome:
    return Outcome(summarise(status, "loss", runs, "2026-01-01T00:00:00Z"), tuple(runs))


@pytest.mark.parametrize(
    ("t", "df", "p"),
    [(6.3138, 1, 0.05), (2.015, 5, 0.05), (3.3649, 5, 0.01), (-1.8125, 10, 0.95), (2.3301, 1000, 0.01)],
)
def test_t_tail_agrees_with_the_printed_tables(t: float, df: int, p: float) -> None:
    """The tail probability is the tables' to four digits, for both signs of t."""
    assert t_tail(t, df) == pytest.approx(p, rel=1e-3)


@pytest.mark.parametrize(
    ("x", "df", "p"),
    [
        (3.8415, 1, 0.05),
        (0.7107, 4, 0.95),
        (9.4877, 4, 0.05),
        (14.0671, 7, 0.05),
        (2.1673, 7, 0.95),
        (118.498, 100, 0.1),
    ],
)
def test_chi2_tail_agrees_with_the_printed_tables(x: float, df: int, p: float) -> None:
    """The tail probability is the tables' to four digits, for odd and even degrees of freedom."""
    assert chi2_tail(x, df) == pytest.approx(p, rel=1e-3)


def test_how_well_a_spread_is_known() -> None:
    """The 90 % interval of σ from five and eight seeds; nothing is known from one."""
    assert sd_interval(1.0, 4) == pytest.approx((0.649, 2.372), abs=2e-3)
    assert sd_interval(1.0, 7) == pytest.approx((0.705, 1.797), abs=2e-3)
    assert sd_interval(1.0, 0) == (0.0, math.inf)
    assert t_above(0.05, 4) == pytest.approx(2.1318, abs=1e-4)
    assert t_above(0.05, 0) == math.inf


def test_what_is_said_to_be_seen_is_seen() -> None:
    """An effect of the size that five seeds against five are said to see is confirmed in about 80 % of first claims."""
    rng, seen = random.Random(3), detectable(Spread(1.0, 8), 5, 5, share(STUDY, 1))
    found = []
    for _ in range(600):
        head = outcome("keep", *(run("confirm", rng.gauss(-seen, 1)) for _ in range(5)))
        rival = outcome("baseline", *(run("baseline", rng.gauss(0, 1)) for _ in range(5)))
        found.append(claim(STUDY, head, rival, [], 1).confirmed)
    assert 0.74 < fmean(found) < 0.86


def test_a_lucky_screening_run_does_not_enter_the_score() -> None:
    """A trial that looked better once is discarded on its fresh runs, and the reason says so."""
    found = verdict(STUDY, [run("screen", 1.0), run("head", 2.1), run("head", 2.2)], REFERENCE)

    assert (found.status, found.arithmetic["score"]) == ("discard", pytest.approx(2.15))
    assert "2 fresh seeds did not bear it out" in found.reason


def test_a_keep_beats_the_reference_on_fresh_runs() -> None:
    """A trial whose fresh mean is better is a provisional keep with the gain in the note."""
    found = verdict(STUDY, [run("screen", 1.8), run("head", 1.9)], REFERENCE)

    assert (found.status, found.confirmed) == ("keep", False)
    assert found.arithmetic["gain"] == pytest.approx(0.1)


def test_a_missed_gate_disqualifies_a_better_score() -> None:
    """No score buys a missed gate, and an unmeasured gate is a missed one."""
    found = verdict(STUDY, [run("screen", 0.1, accuracy=0.89)], REFERENCE)

    assert found.status == "disqualified"
    assert "accuracy is 0.89" in found.reason
    assert missed_gates(STUDY.gates, [Run(1, "screen", "ok", {"loss": 1.0})])


def test_by_how_much_a_trial_missed() -> None:
    """As a share of the gate or of the cap on bytes; a run that was stopped at its budget can't be told."""
    study = replace(STUDY, budget=replace(STUDY.budget, artefact_bytes=1000))
    assert shortfall(study, outcome("disqualified", run("screen", 0.1, accuracy=0.89))) == pytest.approx(0.01 / 0.9)
    twice = outcome("disqualified", run("screen", 0.1, accuracy=0.95), run("head", 0.1, accuracy=0.81))
    assert shortfall(study, twice) == pytest.approx(0.1)  # the fresh one counts
    large = outcome("size_blocked", Run(1, "screen", "size_blocked", artefact_bytes=1020))
    assert shortfall(study, large) == pytest.approx(0.02)
    assert shortfall(study, outcome("train_budget_overrun", Run(1, "screen", "train_budget_overrun"))) == math.inf


def test_pooled_spread_weighs_groups_by_their_degrees_of_freedom() -> None:
    """Groups of different means add no variance; single values add nothing."""
    spread = pooled([[1.0, 3.0], [11.0, 13.0], [99.0]])

    assert (spread.sd, spread.df) == (pytest.approx(2**0.5), 2)


def test_a_worse_head_is_rolled_back() -> None:
    """A head whose confirmation is no better than the baseline loses its keep."""
    baseline = outcome("baseline", *(run("baseline", 2.0 + d) for d in (0.01, -0.01, 0.0)))
    head = outcome("keep", *(run("confirm", 2.1 + d) for d in (0.01, -0.01)))

    found = claim(STUDY, head, baseline, [], 1)

    assert (found.status, found.label) == ("discard", "unconfirmed")


def simulation() -> ModuleType:
    """benchmarks/decisions.py, which simulates whole studies."""
    spec = importlib.util.spec_from_file_location("decisions", Path(__file__).parents[1] / "benchmarks/decisions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


SLOW = pytest.mark.slow


@pytest.mark.parametrize(("count", "budget"), [(150, 100), pytest.param(1000, 300, marks=SLOW)])
def test_noise_alone_is_rarely_claimed(count: int, budget: int) -> None:
    """On studies with nothing to find, at most 5 % end in a claim (with the slack that so many studies have)."""
    module = simulation()
    claimed = [one.promotions > 0 for one in module.simulated(module.rule(), module.null, count, 7, budget=budget)]

    assert fmean(claimed) <= 0.05 + 2.0 * (0.05 * 0.95 / count) ** 0.5


@pytest.mark.parametrize(("count", "budget"), [(100, 100), pytest.param(400, 300, marks=SLOW)])
def test_a_machine_that_drifts_makes_no_claim_where_they_are_interleaved(count: int, budget: int) -> None:
    """With nothing to find and scores that wander by 0.2 σ a run, claims against old runs are made far too often;
    against runs in turn with them in at most 5 % of studies."""
    module = simulation()
    old, beside = (
        fmean(
            one.promotions > 0
            for one in module.simulated(module.rule(interleave=on), module.null, count, 3, budget=budget, drift=0.2)
        )
        for on in (False, True)
    )

    assert old > 0.15
    assert beside <= 0.05 + 2.0 * (0.05 * 0.95 / count) ** 0.5


@pytest.mark.parametrize("count", [25, pytest.param(300, marks=SLOW)])
def test_real_effects_are_claimed_and_true(count: int) -> None:
    """With real effects in the mix a study of 300 runs finds 95 % and more of what keeping every gain truly finds, and
    what it claims is there; keeping every gain claims more than it has, and half of its promotions are none."""
    module = simulation()
    strict, tiers = (
        module.simulated(module.rule(name), module.mixed, count, 11) for name in ("strict-improvement", "two-tier")
    )
    true, claimed = fmean(one.true for one in tiers), fmean(one.claimed for one in tiers)

    assert true >= 0.95 * fmean(one.true for one in strict)
    assert true > 1.5
    assert claimed == pytest.approx(true, rel=0.15)
    assert sum(one.wrong for one in tiers) <= 0.05 * sum(one.promotions for one in tiers)
    assert fmean(one.claimed for one in strict) > 1.3 * fmean(one.true for one in strict)
    assert sum(one.wrong for one in strict) > 0.4 * sum(one.promotions for one in strict)


AT = "2026-01-01T00:00:00Z"


def again(loss: float, status: str = "ok") -> Run:
    return Run(2, "reproduce", status, {"loss": loss} if status == "ok" else {})


def witness_of(rng: random.Random, forged: float) -> str:
    """A study of the usual size with honest noise of 1, one of its keeps forged by so many σ, and two fresh seeds."""
    noise = pooled([[rng.gauss(0, 1) for _ in range(5)], *([rng.gauss(0, 1) for _ in range(2)] for _ in range(4))])
    told = fmean(rng.gauss(0, 1) for _ in range(2)) - forged
    runs = [again(rng.gauss(0, 1)) for _ in range(2)]
    own = pooled([[run.metrics["loss"] for run in runs]])
    spread = Spread(math.sqrt((noise.sd**2 * noise.df + own.sd**2) / (noise.df + 1)), noise.df + 1)
    return str(reproduced("loss", Claimed("keep", told, 2), runs, spread)["verdict"])


def test_an_honest_score_is_doubted_one_time_in_a_hundred() -> None:
    """Over 4,000 honest studies between 0.5 and 1.5 % differ; a score forged by 6 σ is told 9 times in 10."""
    rng = random.Random(5)
    honest = [witness_of(rng, 0.0) for _ in range(4000)]
    forged = [witness_of(rng, 6.0) for _ in range(400)]

    assert 0.005 < honest.count("differs") / len(honest) < 0.015
    assert forged.count("differs") / len(forged) > 0.9


def test_what_a_witness_can_not_know_it_does_not_say() -> None:
    """Without a spread there is the difference and no verdict; runs that we ended ourselves say nothing at all."""
    claimed = Claimed("discard", 2.0, 1)

    found = reproduced("loss", claimed, [again(2.5)], Spread(0.0, 0))
    assert (found["verdict"], found["score"], found["claim"]) == ("no spread known", 2.5, 2.0)
    assert reproduced("loss", claimed, [again(0, "harness_abort")], Spread(1.0, 9)) == {}


@pytest.mark.parametrize(
    ("status", "ended", "verdict"),
    [("crash", "crash", "agrees"), ("crash", "ok", "differs"), ("size_blocked", "crash", "differs"),
     ("keep", "crash", "failed")],
)  # fmt: skip
def test_a_failure_agrees_with_the_same_failure(status: str, ended: str, verdict: str) -> None:
    """It ends as it was said to; what has a score and fails now is told as that."""
    score = 2.0 if status == "keep" else None

    assert reproduced("loss", Claimed(status, score, 1), [again(2.0, ended)], Spread(1.0, 9))["verdict"] == verdict


def test_without_noise_any_difference_differs() -> None:
    """A recipe that gives the same on every seed must give it again."""
    same, other = (reproduced("loss", Claimed("keep", 2.0, 2), [again(x)], Spread(0.0, 4)) for x in (2.0, 2.001))

    assert (same["verdict"], other["verdict"]) == ("agrees", "differs")


def test_a_witness_enters_nothing_that_the_study_decides() -> None:
    """Score, n and spread of the head, the runs that count, what a claim pools and by how much a bound was missed."""
    runs = (run("screen", 1.9), run("head", 2.0), run("head", 2.1))
    looked = (*runs, again(9.0), again(9.5))
    plain, seen = summarise("keep", "loss", runs, AT), summarise("keep", "loss", looked, AT)
    assert seen == plain
    assert list(counting(looked)) == list(counting(runs)) == list(runs[1:])
    assert list(counting((runs[0], again(9.0)))) == [runs[0]]
    assert values(outcome("keep", *looked), "baseline", *FRESH) == [2.0, 2.1]
    failed = Run(1, "screen", "size_blocked", artefact_bytes=1100)
    study = replace(STUDY, budget=replace(STUDY.budget, artefact_bytes=1000))
    assert shortfall(study, outcome("size_blocked", failed, replace(again(1.0), artefact_bytes=9000))) == 0.1
    assert summarise("crash", "loss", (Run(1, "screen", "crash"), again(1.0)), AT).n == 1


def test_a_witness_alone_is_scored_on_its_own_runs_and_makes_no_keep() -> None:
    """An outcome of those alone is measured, or failed as its run did."""
    assert summarise("discard", "loss", (again(2.0), again(3.0)), AT).score == 2.5
    assert witnessed("improve", [again(1.0)]) == "discard"
    assert witnessed("baseline", [again(1.0)]) == "baseline"
    assert witnessed("improve", [again(1.0), again(0, "crash"), again(0, "harness_abort")]) == "crash"
    assert witnessed("improve", [again(0, "harness_abort")]) == "harness_abort"
