"""Learning curves: what they foretell, and how often a winner is stopped."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gitresearch import curves
from gitresearch.curves import CHECKED, FIRST_LOOK, MARKS, Bar, Curve, Experience, slack
from gitresearch.errors import FormatError
from gitresearch.forecast import Forecast
from gitresearch.noise import Spread
from gitresearch.outcome import Outcome, Run
from gitresearch.study import Decision, Objective, Seeds, Study, load
from tests.build import outcome

LOSS = Objective("loss", "min")
PLAIN = load(
    'name = "demo"\n[recipe]\ntrain = "python train.py"\n[objective]\nmetric = "loss"\n[evaluator]\nhook = "hook.py"\n'
    '[[specialists]]\nname = "one"\nsurface = ["**"]\n'
)
ASKED = replace(PLAIN, objective=LOSS, decision=Decision(curve_alpha=0.1))


def ran(score: float, *values: float, purpose: str = "screen", status: str = "ok") -> Run:
    """A run with a curve, which falls to the score where no values are given."""
    curve = values or tuple(score + 1 - mark for mark in MARKS)
    return Run(1, purpose, status, {"loss": score}, curve=curve)


def test_a_curve_is_the_mean_of_each_tenth() -> None:
    """Each mark holds the mean of the reports before it; one that none fell before holds the next; the rest is kept."""
    curve = Curve()
    marked = [curve.add(share, value) for share, value in ((0.05, 4.0), (0.1, 2.0), (0.15, 9.0), (0.45, 1.0))]
    assert marked == [False, False, True, True]
    assert curve.values == [3.0, 9.0, 1.0, 1.0]
    assert not curve.add(0.46, float("nan"))
    assert not curve.add(0.47, -1e300)
    for step in range(50, 101):
        curve.add(step / 100, 1.0)
    assert len(curve.values) == len(MARKS)


def test_the_parent_tells_how_much_is_still_to_come() -> None:
    """A child is foretold to close the distance that its parent closed, and granted the slack for what is left."""
    bar = Bar(LOSS, 2.0, curves.offsets([ran(2.0), ran(2.0, purpose="head")], "loss"), slack=0.1, known=9, level=0.1)
    assert bar.plausible(4, 3.0) == pytest.approx(3.0 - 0.5 - 0.1 * 0.6)
    assert bar.hopeless([9.0] * 4 + [2.57])
    assert not bar.hopeless([9.0] * 4 + [2.55])
    assert not bar.hopeless([9.0] * FIRST_LOOK)
    upwards = Bar(Objective("acc", "max"), 0.8, (0.1,) * 9, slack=0.1)
    assert upwards.hopeless([0.0, 0.0, 0.6])
    assert not upwards.hopeless([0.0, 0.0, 0.7])


def test_only_whole_runs_teach() -> None:
    """A run that failed, has no whole curve, or is a witness's, says nothing of what is still to come."""
    assert curves.offsets([ran(1.0, 2.0), ran(1.0, status="crash"), replace(ran(1.0), metrics={})], "loss") == ()
    witnessed = [ran(2.0), ran(7.0, *[0.0] * 9, purpose="reproduce")]
    assert curves.offsets(witnessed, "loss") == curves.offsets([ran(2.0)], "loss")


def test_the_slack_needs_enough_trials() -> None:
    """Of 9 surprises the largest is exceeded by the next one time in ten; of 8 nothing can be said at that level."""
    assert slack([float(n) for n in range(9)], 0.1) == 8.0
    assert slack([float(n) for n in range(8)], 0.1) == float("inf")
    assert slack([float(n) for n in range(19)], 0.1) == 17.0
    assert slack([1.0], 0.0) == float("inf")


def test_bytes_are_foretold_from_what_past_artefacts_weighed() -> None:
    """The parent's weighed so many times what was projected; what is over the cap even at the lightest that is left
    plausible is too large, and what was blocked teaches too."""
    made = [Run(0, "screen", "ok", projected_bytes=100, artefact_bytes=size) for size in range(96, 105)]
    made[3] = replace(made[3], status="size_blocked")
    base = Run(0, "baseline", "ok", projected_bytes=100, artefact_bytes=110)
    known = {f"t{n}": replace(outcome(None, "crash"), runs=(run,)) for n, run in enumerate(made)}
    known |= {"p": replace(outcome(2.0), runs=(base,))}
    bar = Experience(ASKED, known.get).bar("p", [(f"t{n}", "p") for n in range(9)], 2.0)
    assert bar is not None
    assert bar.lightest == pytest.approx(0.96)
    assert bar.too_large(200, 190) == "200 bytes are projected, at least 192 by past trials (level 0.1); the cap is 190"
    assert bar.too_large(200, 193) == bar.too_large(200, 0) == bar.too_large(0, 190) == ""
    assert not bar.hopeless([9.0] * 9)
    assert Experience(ASKED, known.get).bar("p", [(f"t{n}", "p") for n in range(8)], 2.0) is None


def test_memory_is_foretold_from_what_past_smoke_runs_took() -> None:
    """As bytes are, from the runs that came to their end: one that was stopped early may have needed more."""
    made = [Run(0, "screen", "ok", smoke_memory_bytes=100, peak_memory_bytes=size) for size in range(196, 205)]
    base = Run(0, "baseline", "ok", smoke_memory_bytes=100, peak_memory_bytes=210)
    known = {f"t{n}": replace(outcome(2.1), runs=(run,)) for n, run in enumerate(made)}
    known |= {"p": replace(outcome(2.0), runs=(base,))}
    past = [(f"t{n}", "p") for n in range(9)]
    bar = Experience(ASKED, known.get).bar("p", past, 2.0)
    assert bar is not None
    assert (bar.leanest, bar.lightest) == (pytest.approx(1.96), 0.0)
    told = "the smoke run took 200 bytes of memory, at least 392 by past trials (level 0.1); the cap is 390"
    assert bar.too_hungry(200, 390) == told
    assert bar.too_hungry(200, 393) == bar.too_hungry(200, 0) == bar.too_hungry(0, 390) == ""
    known["t3"] = replace(known["t3"], runs=(replace(made[3], status="early_stop"),))
    assert Experience(ASKED, known.get).bar("p", past, 2.0) is None


def search(seed: int, trials: int, level: float) -> tuple[int, int, int]:
    """A made-up search: how many of its runs were stopped, how many of those would have won, of how many trials.

    A trial's curve is its parent's, moved by its effect, with noise that shrinks as the end nears; its end departs from
    what the curve says by more noise. Nothing that is stopped leaves a trace.
    """
    rng = random.Random(seed)
    first = Run(0, "baseline", "ok", {"loss": 2.0}, curve=tuple(3.0 - mark for mark in MARKS))
    outcomes: dict[str, Outcome] = {"base": replace(outcome(2.0), runs=(first,))}
    parents: dict[str, str] = {}
    asked = replace(ASKED, decision=Decision(curve_alpha=level))
    experience, head, stopped, lost = Experience(asked, outcomes.get), "base", 0, 0
    for number in range(trials):
        before = outcomes[head].runs[0]
        effect, drift = rng.gauss(0.03, 0.05), rng.gauss(0.0, 0.02)
        end = before.metrics["loss"] + effect + rng.gauss(0.0, 0.01)
        curve = [value + effect + drift * (1 - mark) for value, mark in zip(before.curve, MARKS, strict=True)]
        bar = experience.bar(head, list(parents.items()), before.metrics["loss"])
        if bar and any(bar.hopeless(curve[:n]) for n in range(1, len(curve) + 1)):
            stopped += 1
            lost += end < before.metrics["loss"]
            continue
        name = f"t{number}"
        outcomes[name], parents[name] = replace(outcome(end), runs=(ran(end, *curve),)), head
        head = name if end < before.metrics["loss"] else head
    return stopped, lost, trials


@pytest.mark.parametrize("level", [0.05, 0.1, 0.2])
def test_few_winners_are_stopped(level: float) -> None:
    """Of all runs of 60 made-up searches no more than the level are winners that were stopped, and many are stopped."""
    found = [search(seed, 80, level) for seed in range(60)]
    stopped, lost, trials = (sum(column) for column in zip(*found, strict=True))
    assert lost / trials <= level
    assert stopped / trials > 0.2


def test_a_run_ends_at_the_mark_that_decides() -> None:
    """It is stopped where its curve is out of reach, with the arithmetic in words; one that is let on only notes it."""
    bar = Bar(LOSS, 2.0, tuple(mark - 1 for mark in MARKS), slack=0.1, known=9, level=0.1)

    def told(let_on: bool) -> tuple[str, Forecast]:
        forecast = Forecast(100, replace(bar, let_on=let_on))
        for step in range(101):
            if why := forecast.hear(step / 2, [b"%d 100 3.5" % step]):
                return why, forecast
        return "", forecast

    why, forecast = told(let_on=False)
    status, failure = forecast.failure(why)
    assert (why, status, failure.label, forecast.foretold) == ("early_stop", "early_stop", "curve", 0.3)
    assert "at 30% of its training 3.5: foretold 2.8, at best 2.72 by 9 trials (level 0.1), against 2" in failure.lines
    assert forecast.saved(why) == pytest.approx(69 / 2, abs=1)
    why, forecast = told(let_on=True)
    assert (why, forecast.foretold, len(forecast.curve.values)) == ("", 0.3, 9)


def test_a_study_of_seconds_ends_what_is_too_slow() -> None:
    """One screening run is lost past the reference, one of several where the look after it would say so; a run that is
    certain to pass that ends before."""
    asked = replace(PLAIN, objective=Objective("total_seconds", "min"), seeds=Seeds(screen=3))
    bar = curves.time_bar(asked, 10.0, Spread(0.5, 4))
    assert bar is not None
    assert 10.5 < bar.seconds < 12.0
    alone = curves.time_bar(replace(asked, seeds=Seeds(screen=1)), 10.0, Spread(0.5, 4))
    assert alone is not None
    assert alone.seconds == 10.0
    assert curves.time_bar(asked, 10.0, Spread(0.0, 0)) is None
    assert curves.time_bar(replace(asked, objective=LOSS), 10.0, Spread(0.5, 4)) is None
    assert curves.time_bar(replace(asked, objective=Objective("total_seconds", "max")), 10.0, Spread(0.5, 4)) is None

    forecast = Forecast(60, bar)
    at = next(tenth / 10 for tenth in range(600) if forecast.hear(tenth / 10, [b"%d 400 1.0" % tenth]))
    status, failure = forecast.failure("early_stop")
    assert (status, failure.label) == ("early_stop", "too_slow")
    assert at < 5
    silent = Forecast(60, bar)
    assert silent.hear(bar.seconds, []) == ""
    assert silent.hear(bar.seconds + 0.1, []) == "early_stop"


def test_nothing_is_stopped_unasked() -> None:
    """There is no bar where the study doesn't ask for one, the parent has no curve, or too few trials are known."""
    known = {"p": replace(outcome(2.0), runs=(ran(2.0),))} | {
        f"t{n}": replace(outcome(2.1), runs=(ran(2.1),)) for n in range(9)
    }
    past = [(f"t{n}", "p") for n in range(9)]

    def bar(asked: Study, parent: str, past: Sequence[tuple[str, str]]) -> Bar | None:
        return Experience(asked, known.get).bar(parent, past, 2.0)

    assert bar(ASKED, "p", past) is not None
    assert bar(PLAIN, "p", past) is None
    assert bar(ASKED, "nobody", past) is None
    assert bar(ASKED, "p", past[1:]) is None
    assert bar(ASKED, "p", [*past[1:], ("p", "nobody")]) is None
    assert CHECKED > 1


def test_a_note_that_is_odd_teaches_nothing() -> None:
    """One that can't be read, numbers that no run has, a first run that we ended: the others still tell."""
    known = {f"t{n}": replace(outcome(2.1), runs=(ran(2.1),)) for n in range(9)} | {
        "p": replace(outcome(2.0), runs=(ran(2.0),)),
        "negative": replace(outcome(2.1), runs=(replace(ran(2.1), projected_bytes=3, artefact_bytes=-5),)),
        "huge": replace(outcome(2.1), runs=(ran(1e308, *[-1e308] * 9),)),
        "ours": replace(outcome(2.1), runs=(ran(2.1, status="harness_abort"), ran(2.1))),
    }

    def outcome_of(oid: str) -> Outcome | None:
        if oid == "broken":
            raise FormatError("no note of ours")
        return known.get(oid)

    past = [(name, "p") for name in ("broken", "negative", "huge", "ours", *(f"t{n}" for n in range(9)))]
    bar = Experience(ASKED, outcome_of).bar("p", past, 2.0)
    assert bar is not None
    assert (bar.known, bar.slack, bar.lightest) == (11, pytest.approx(0.0), 0.0)
    assert Experience(ASKED, outcome_of).bar("broken", past, 2.0) is None
    several = replace(ASKED, seeds=Seeds(screen=2))
    assert Experience(several, outcome_of).bar("p", past, 2.0) is None
