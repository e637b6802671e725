"""Where evaluation time went: which seconds count for what, and what notes may say of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gitresearch import timing as times
from gitresearch.lineage import Node
from gitresearch.outcome import Run
from gitresearch.timing import saved, timing
from gitresearch.trial import Trial
from tests.build import add_trial, hypothesis, outcome, record, study_repo
from tests.test_cli import Cli, call  # noqa: F401  (a fixture)

SPARED = Run(1, "screen", "crash", saved_seconds=7.5, saved_by="not_finite")


def known(status: str, seconds: float, specialist: str = "one", *runs: Run) -> tuple[Node, bytes]:
    """A trial with its note."""
    made = outcome(1.0, status, seconds=seconds)
    trial = Trial("a" * 40, "b" * 40, (), 0, hypothesis(specialist=specialist))
    return Node(trial, made.summary), replace(made, runs=(*made.runs, *runs)).note()


def test_seconds_are_useful_or_wasted_by_status() -> None:
    """What has a rank is useful, all else wasted; sums by status and by specialist agree with the whole."""
    rows = [known("keep", 10, "two"), known("discard", 20), known("baseline", 5), known("crash", 3, "one", SPARED)]
    rows += [known("disqualified", 30, "two"), known("invalid", 2), known("harness_abort", 10)]
    found = timing(rows)
    assert (found.total.trials, found.total.useful, found.total.wasted, found.total.saved) == (7, 35, 45, 7.5)
    assert found.total.share == 45 / 80
    assert found.reasons == {"not_finite": 7.5}
    assert (found.specialists["two"].useful, found.specialists["two"].wasted) == (10, 30)
    assert found.statuses["crash"].saved == 7.5
    for part in (found.statuses, found.specialists):
        assert sum(times.useful + times.wasted for times in part.values()) == 80
    assert timing([]).total.share == 0


@pytest.mark.parametrize("told", [-1.0, 0.0])
def test_a_saving_that_is_none(told: float) -> None:
    """Nothing below nought is saved, and nothing by a witness or by a note that can't be read."""
    _, note = known("crash", 1, "one", replace(SPARED, saved_seconds=told), replace(SPARED, purpose="reproduce"))
    assert saved(times.told(note)) == {}
    assert saved(times.told(b"\nsaved_seconds = 9\n")) == {}
    assert saved(times.told(known("crash", 1, "one", replace(SPARED, saved_by=""))[1])) == {"unknown": 7.5}


def test_what_repeats_would_have_taken() -> None:
    """Of the study's own notes, as far as they can be read; a figure that is none counts for nothing."""
    notes = [f'\nstudy = "{study}"\nspared_seconds = {told}\n'.encode() for study, told in (("a", 5.5), ("b", 100))]
    notes += [f'\nstudy = "a"\nspared_seconds = {told}\n'.encode() for told in ("-3", "inf", "nan", '"7"', "=", "2")]
    assert times.repeats([*notes, b"\xff\nspared_seconds = 1", b'\nstudy = "a"\n'], "a") == 7.5


def test_the_verb(call: Cli, tmp_path: Path) -> None:  # noqa: F811
    """A table for people and JSON for programs; before any outcome it says so."""
    study = 'name = "demo"\n[recipe]\ntrain = "python train.py"\n[objective]\nmetric = "loss"\n'
    study += '[evaluator]\npattern = "(x)"\n[[specialists]]\nname = "optimizer"\nsurface = ["**"]\n'
    repo = study_repo(tmp_path / "s", files={"train.py": b"", "study.toml": study.encode()})
    base = repo.make_baseline("demo", repo.head_commit())
    assert "no outcomes yet" in call("-C", tmp_path / "s", "stats").err
    record(repo, base, 1.0, "baseline", seconds=30.0)
    trial = add_trial(repo, "try it", [base])
    repo.record(trial.oid, replace(outcome(None, "crash", seconds=10.0), runs=(SPARED,)))

    told = json.loads(call("-C", tmp_path / "s", "stats", "--json").out)
    assert told["saved"] == {"not_finite": 7.5}
    assert told["specialists"]["all"] == {"trials": 2, "useful": 30, "wasted": 10, "saved": 7.5, "wasted_share": 0.25}
    assert list(told["statuses"]) == ["baseline", "crash"]
    assert "7.5      not_finite" in call("-C", tmp_path / "s", "show", trial.short).out
    shown = call("-C", tmp_path / "s", "stats").out
    assert "saved by not_finite: 8 s" in shown
    assert "25%" in shown
