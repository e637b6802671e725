"""Scores told in the seconds of the unchanged recipe: what runs beside each run, and what stands on it."""

import os
import re
from contextlib import ExitStack
from dataclasses import replace

import pytest

from gitresearch.audit import outcomes
from gitresearch.cores import Cores
from gitresearch.curves import Bar
from gitresearch.errors import GitResearchError
from gitresearch.outcome import RELATIVE, Outcome, Run
from gitresearch.study import Gate, Objective, load
from tests.build import add_trial, outcome
from tests.test_evaluate import GOOD, HOOK, SAYS, Bench, Make, bench, box, failed  # noqa: F401  (two are fixtures)

SLOW = "import time; time.sleep(0.4)\n" + GOOD


def relative(made: Bench) -> Bench:
    """The bench's study, scored so."""
    made.evaluator.study = replace(made.evaluator.study, objective=Objective(RELATIVE))
    return made


def test_the_unchanged_recipe_runs_beside_each_run(bench: Make) -> None:  # noqa: F811
    """The score is the run's seconds over its; the other is told of in no metric and to nobody who watches, and nothing
    is left of it."""
    made = relative(bench(recipe='predict = "python predict.py"', files={"train.py": SLOW}))
    run = made.run().run
    assert run.status == "ok"
    assert run.baseline_seconds > 0.4 > run.train_seconds
    assert run.metrics["relative_seconds"] == pytest.approx(run.total_seconds / run.baseline_seconds, abs=1e-6)
    assert 0 < run.metrics["relative_seconds"] < 1
    assert Outcome.parse(replace(outcome(), runs=(run,)).note()).runs == (run,)
    assert list(dict.fromkeys(event.phase for event in made.events)) == ["preflight", "train", "score", "done"]
    assert len({(event.trial, event.run) for event in made.events}) == 1
    assert made.leftovers() == []


def test_a_gate_may_ask_for_it(bench: Make) -> None:  # noqa: F811
    """What it is asked of is measured, whatever the score is."""
    made = bench(files={"train.py": SLOW})
    made.evaluator.study = replace(made.evaluator.study, gates=(Gate(RELATIVE, at_most=1.1),))
    run = made.run().run
    assert run.metrics == {"loss": 0.5, "hook": 1.0, RELATIVE: run.relative_seconds}
    assert run.relative_seconds > 0


def test_that_it_fails_is_no_fault_of_the_trial(bench: Make) -> None:  # noqa: F811
    """The unchanged recipe did run once; the run is ended as our own fault, and says by what."""
    made = relative(bench(files={"train.py": "raise SystemExit('no room')\n"}))
    lines = failed(made.run(), "harness_abort", "harness", "baseline")
    assert "the unchanged recipe, run beside the trial, ended in crash" in lines
    assert "no room" in lines
    assert made.leftovers() == []


def test_what_is_too_slow_is_so_by_its_seconds(bench: Make) -> None:  # noqa: F811
    """What can't win any more against 1.2 of the baseline's is stopped long before its end."""
    made = relative(bench(files={"train.py": SLOW}))
    bar = Bar(made.evaluator.study.objective, 1.0, seconds=1.2)
    code = SAYS + "for n in range(400): say(n, 400, 1.0); time.sleep(0.02)\n" + GOOD
    trial = add_trial(made.repo, "try", edits={"train.py": code.encode()})
    result = made.evaluator.run(trial, 7, "screen", None, bar)
    assert "could still win" in failed(result, "early_stop", "train", "too_slow")
    assert result.run.train_seconds < 3
    assert (bar.over(2.5).seconds, bar.over(2.5).reference) == (3.0, 2.5)


def test_a_bar_in_seconds_holds_where_only_a_gate_is_relative(bench: Make) -> None:  # noqa: F811
    """It needs nothing of the baseline's, and stands from the start."""
    made = bench(files={"train.py": "import time; time.sleep(9)\n" + GOOD})
    study = replace(made.evaluator.study, objective=Objective("total_seconds"), gates=(Gate(RELATIVE, at_most=1.1),))
    made.evaluator.study = study
    trial = add_trial(made.repo, "try", edits={"train.py": ("import time; time.sleep(5)\n" + GOOD).encode()})
    result = made.evaluator.run(trial, 7, "screen", None, Bar(study.objective, 1.0, seconds=0.5))
    assert "could still win" in failed(result, "early_stop", "train", "too_slow")
    assert result.run.train_seconds < 3


def test_a_hook_that_fails_beside_leaves_no_score(bench: Make) -> None:  # noqa: F811
    """What the trial itself was scored is not told where there is nothing to tell it in."""
    hook = HOOK.replace("def measure():", 'def measure():\n    assert "baseline" not in request["tree"]')
    assert hook != HOOK
    made = relative(bench(files={"train.py": GOOD, "hooks/hook.py": hook}))
    result = made.run("import time\n" + GOOD)
    assert (result.run.status, result.run.metrics) == ("harness_abort", {})
    assert made.leftovers() == []


def test_both_share_a_core(bench: Make) -> None:  # noqa: F811
    """Each program is held to one, the same; who started them is not, before or after."""
    told = "import os; print('cores', sorted(os.sched_getaffinity(0))); raise SystemExit(int('baseline' in {}))\n"
    before = os.sched_getaffinity(0)
    made = relative(bench(files={"train.py": told.format(["baseline"])}))
    failure = made.run(told.format(["baseline"])).failure
    assert failure is not None
    assert re.search(r"cores \[\d+\]", "\n".join(failure.lines))
    assert os.sched_getaffinity(0) == before


def test_cores_are_given_evenly() -> None:
    """As many at a time on each as can be, and a core that is given back is the first to go again."""
    cores = Cores()
    have = sorted(os.sched_getaffinity(0))
    with ExitStack() as held:
        given = []
        for _ in have:
            at = ExitStack()
            given.append(at.enter_context(cores.one()))
            held.push(at)
            os.sched_setaffinity(0, have)  # as another thread would find it
        assert sorted(given) == have
        with cores.one() as again:
            assert again == have[0]


def test_a_trial_that_ends_badly_ends_the_baseline_beside_it(bench: Make) -> None:  # noqa: F811
    """Nobody waits for seconds that nothing will be told in."""
    made = relative(bench(files={"train.py": "import time; time.sleep(15)\n" + GOOD}))
    result = made.run("raise SystemExit('out of luck')")
    assert "out of luck" in failed(result, "crash", "train", "exit_1")
    assert result.run.wall_seconds < 10
    assert made.leftovers() == []


def test_an_audit_asks_for_it(bench: Make) -> None:  # noqa: F811
    """A ratio that its seconds don't give, or none to take one from, is found; so are seconds that no run may take."""
    study = replace(bench().evaluator.study, objective=Objective(RELATIVE))
    good = Run(1, "screen", "ok", {RELATIVE: 0.5}, train_seconds=2.0, baseline_seconds=4.0)
    assert [*outcomes._run(study, good)] == []
    for wrong, claim in (
        (replace(good, metrics={RELATIVE: 0.4}), "measured by the evaluator itself"),
        (replace(good, metrics={RELATIVE: 0.0}, baseline_seconds=0.0), "a run beside the unchanged recipe"),
        (replace(good, metrics={RELATIVE: 0.02}, baseline_seconds=100.0), "a run within its budget"),
    ):
        assert claim in [found for found, _ in outcomes._run(study, wrong)]


def test_a_lease_is_as_long_as_both() -> None:
    """Else another process could begin the trial while this one runs. Only CPU seconds can be told so."""
    text = 'name = "a"\n[recipe]\ntrain = "x"\n[objective]\nmetric = "{}"\n[evaluator]\nhook = "h"\n[[specialists]]\n'
    text += 'name = "b"\nsurface = ["**"]\n'
    plain, both = (load(text.format(name)) for name in ("total_seconds", RELATIVE))
    assert both.longest_run == 2 * plain.longest_run
    with pytest.raises(GitResearchError, match="two share a core"):
        load(text.format(RELATIVE).replace("[evaluator]", '[budget]\nclock = "wall"\n[evaluator]'))
