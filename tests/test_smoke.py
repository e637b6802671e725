"""The smoke run: what it finds, what it leaves alone, and that nothing of it reaches the run that counts."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gitresearch import smoke
from gitresearch.curves import Bar
from gitresearch.outcome import Failure, Outcome
from gitresearch.repo import Repo
from gitresearch.study import Budget, Objective
from tests import test_evaluate as stage
from tests.attacks import victim
from tests.build import add_trial, git, outcome, plain_repo

bench, box = stage.bench, stage.box  # fixtures
Make, failed = stage.Make, stage.failed

# The hook asks a smoke run's predictor once, and says that it knows such runs.
HOOK = stage.HOOK.replace('{"ok": True}', '{"ok": True, "smoke": True}').replace(
    "range(3)", 'range(1 if request.get("smoke") else 3)'
)
KNOWS = {"hooks/hook.py": HOOK}
BUDGET = "smoke_seconds = 10"
PREDICT = 'predict = "python predict.py"'
# Leaves twelve bytes after a few steps, and three after training.
SHRINKS = stage.GOOD.replace('"0.5"', '"0.5" + "0" * 9 * ("GITRESEARCH_SMOKE" in os.environ)')
SMOKE = 'import os, sys, time\nsmoke = "GITRESEARCH_SMOKE" in os.environ\n'


def phases(made: stage.Bench) -> list[str]:
    """The phases of all runs, one after another."""
    told = [(event.run, event.phase) for event in made.events]
    return [phase for _, phase in dict.fromkeys(told)]


@pytest.mark.parametrize(
    ("train", "predict", "phase", "label"),
    [
        (stage.GOOD, "import sys\nsys.stdin.readline()\n[][3]\n", "smoke score", "IndexError"),
        (stage.GOOD, "print('nonsense', flush=True)\ninput()\n", "smoke score", "prediction"),
        (stage.GOOD, "import sys\nsys.stdin.readline()\n", "smoke score", "prediction"),
        (SMOKE + "if not smoke: time.sleep(9)\n[][3]\n", stage.PREDICTOR, "smoke train", "IndexError"),
        (
            stage.SAYS + "for n in range(3): say(n, 3, 'nan')\ntime.sleep(9)",
            stage.PREDICTOR,
            "smoke train",
            "not_finite",
        ),
        (SMOKE + "os.symlink('/', os.environ['GITRESEARCH_ARTEFACT'] + '/model')", "", "smoke measure", "artefact"),
    ],
)
def test_what_cannot_work_ends_before_training(bench: Make, train: str, predict: str, phase: str, label: str) -> None:
    """Programs that fail are `preflight_crash`, with the phase; none is accused, and no run was begun."""
    made = bench(PREDICT, BUDGET, files=KNOWS | {"predict.py": predict})

    result = made.run(train)

    failed(result, "preflight_crash", phase, label)
    assert phases(made) == ["preflight", "smoke", "done"]
    assert (result.run.train_seconds, result.run.eval_seconds, result.run.artefact_bytes) == (0, 0, 0)
    assert 0 < result.run.smoke_seconds <= result.run.wall_seconds
    assert made.leftovers() == []
    assert Outcome.parse(replace(outcome(), runs=(result.run,)).note()).runs == (result.run,)


def test_too_much_on_disk(bench: Make) -> None:
    """A limit on files is as true in a smoke run."""
    made = bench(budget=f"{BUDGET}\ndisk_mb = 1", files=KNOWS)

    failed(made.run(stage.GOOD + "open('big', 'wb').write(bytes(3 << 20))"), "resource_limit", "smoke train", "disk")


@pytest.mark.parametrize("predict", [stage.PREDICTOR, SMOKE + f"smoke and time.sleep(9)\n{stage.PREDICTOR}"])
def test_a_good_trial_goes_on(bench: Make, predict: str) -> None:
    """After its smoke run, whose predictor may hang, a trial runs as without one; the smoke run's figures are kept."""
    made = bench(PREDICT, "smoke_seconds = 0.5", files=KNOWS | {"predict.py": predict})

    run = made.run().run

    assert (run.status, run.metrics, run.saved_by) == ("ok", {"loss": 0.25}, "")
    assert phases(made) == ["preflight", "smoke", "train", "score", "done"]
    assert len({event.run for event in made.events}) == 1
    assert run.smoke_seconds > 0
    assert run.smoke_bytes == run.artefact_bytes == 3


def test_a_program_that_does_not_know_it_is_stopped(bench: Make) -> None:
    """That means nothing: it trains as it would have."""
    made = bench(budget="smoke_seconds = 0.2", files=KNOWS)

    run = made.run("import time; time.sleep(0.5)\n" + stage.GOOD).run

    assert (run.status, run.metrics["loss"], run.smoke_bytes) == ("ok", 0.5, 0)
    assert 0.2 <= run.smoke_seconds < 0.5 < run.train_seconds


def test_a_hook_that_does_not_know_it_is_not_asked_to_score(bench: Make) -> None:
    """It would ask about everything: the predictor's fault is found after training."""
    made = bench(PREDICT, BUDGET, files={"predict.py": "[][3]"})

    failed(made.run(), "crash", "score", "IndexError")
    assert phases(made) == ["preflight", "smoke", "train", "score", "done"]


def test_a_study_without_a_hook(bench: Make) -> None:
    """Its program is tried too; what it prints in a smoke run is no metric."""
    made = bench(budget=BUDGET, pattern=r"loss: (\S+)")

    assert made.run(SMOKE + "print('loss:', 'rubbish' if smoke else 2)").run.metrics == {"loss": 2.0}
    failed(made.run(SMOKE + "assert not smoke"), "preflight_crash", "smoke train", "AssertionError")


def test_one_smoke_run_a_trial(bench: Make) -> None:
    """Further seeds, and purposes that come after a first run, have none."""
    made = bench(budget=BUDGET, files=KNOWS)
    trial = add_trial(made.repo, "try this", edits={"train.py": stage.GOOD.encode()})

    for purpose in ("confirm", "screen", "screen", "reproduce"):
        assert made.evaluator.run(trial, 7, purpose).run.status == "ok"

    assert phases(made).count("smoke") == 1
    assert next(event.purpose for event in made.events if event.phase == "smoke") == "screen"


def test_nothing_of_it_reaches_the_run(bench: Make) -> None:
    """Neither its artefact, nor what it wrote beside its files or in its home, is there."""
    code = """
places = ["left", os.environ["GITRESEARCH_ARTEFACT"] + "/left", os.path.expanduser("~/left")]
if smoke:
    for place in places: open(place, "w").close()
else:
    assert not any(map(os.path.exists, places)), places
"""
    assert bench(budget=BUDGET, files=KNOWS).run(SMOKE + code + stage.GOOD).run.status == "ok"


def test_it_is_told_the_budgets_of_the_run(bench: Make) -> None:
    """A recipe divides its real budget in a smoke run too: a smaller one might break what works."""
    made = bench(budget="train_seconds = 15\nsmoke_seconds = 10", files=KNOWS)
    code = "assert os.environ['GITRESEARCH_TRAIN_SECONDS'] == '15'\n"

    assert made.run(SMOKE + code + stage.GOOD).run.status == "ok"


def test_warming_up_is_tried_as_well(bench: Make) -> None:
    """The gate is there in a smoke run, and its time is the smoke run's."""
    made = bench(budget="smoke_seconds = 0.4\nwarmup_seconds = 15", files=KNOWS)
    slow = "if smoke: time.sleep(9)\n"

    assert made.run(SMOKE + stage.READY + stage.GOOD).run.smoke_bytes == 3
    assert made.run(SMOKE + slow + stage.READY + stage.GOOD).run.status == "ok"
    failed(made.run(SMOKE + stage.READY + "assert not smoke"), "preflight_crash", "smoke train", "AssertionError")


def test_what_a_late_crash_spares(bench: Make) -> None:
    """As much as the last good run took, less the smoke run; a crash in training spares nothing that is known."""
    made = bench(PREDICT, BUDGET, files=KNOWS)
    spent = made.run(SMOKE + "if not smoke: time.sleep(0.5)\n" + stage.GOOD).run

    late = made.run(files={"predict.py": "[][3]"}).run
    early = made.run("[][3]").run

    assert late.saved_by == "smoke"
    assert late.saved_seconds == pytest.approx(spent.total_seconds - late.smoke_seconds, abs=0.002)
    assert (early.saved_seconds, early.saved_by) == (0, "")


@pytest.mark.parametrize(("lightest", "status"), [(1.0, "size_blocked"), (0.5, "ok")])
def test_what_a_smoke_run_leaves_is_a_projection(bench: Make, lightest: float, status: str) -> None:
    """Where the hook reckons nothing: its bytes go on record, and past trials tell whether they are too many."""
    made = bench(budget=f"{BUDGET}\nartefact_bytes = 10", files=KNOWS)
    trial = add_trial(made.repo, "try this", edits={"train.py": SHRINKS.encode()})

    result = made.evaluator.run(trial, 7, "screen", None, Bar(Objective("loss"), 0.0, level=0.1, lightest=lightest))

    assert (result.run.status, result.run.smoke_bytes, result.run.projected_bytes) == (status, 12, 12)
    if status == "size_blocked":
        failed(result, status, "smoke measure", "foretold_too_large")
        assert result.run.artefact_bytes == result.run.train_seconds == 0


@pytest.mark.parametrize(("leanest", "let_on"), [(0.0, False), (1e9, False), (1e9, True)])
def test_what_a_smoke_run_took_of_memory_foretells_a_limit(bench: Make, leanest: float, let_on: bool) -> None:
    """It is on record beside what the run took; where past trials say that it comes to too much, there is no run."""
    made = bench(budget=BUDGET, files=KNOWS)
    # Memory is looked at every so often: a program that is over in milliseconds may be seen to take none.
    trial = add_trial(made.repo, "try this", edits={"train.py": f"import time; time.sleep(0.4)\n{SHRINKS}".encode()})
    bar = Bar(Objective("loss"), 0.0, level=0.1, leanest=leanest, let_on=let_on)

    result = made.evaluator.run(trial, 7, "screen", None, bar)

    assert 0 < result.run.smoke_memory_bytes < 1 << 30
    assert bool(result.run.foretold) == bool(leanest)
    if not leanest or let_on:
        assert (result.run.status, result.run.artefact_bytes > 0) == ("ok", True)
    else:
        failed(result, "resource_limit", "smoke measure", "foretold_too_hungry")
        assert (result.run.train_seconds, result.run.saved_by) == (0, "")


def test_the_hook_tells_how_many_parameters_there_are(bench: Make) -> None:
    """Where it can; it is on record and read back."""
    hook = HOOK.replace('"smoke": True', '"smoke": True, "parameters": 4321')

    run = bench(budget=BUDGET, files={"hooks/hook.py": hook}).run().run

    assert run.parameters == 4321


def test_a_projection_of_the_hook_comes_first(bench: Make) -> None:
    """It knows the format."""
    hook = HOOK.replace('"smoke": True', '"smoke": True, "projected_bytes": 77')

    run = bench(budget=BUDGET, files={"hooks/hook.py": hook}).run().run

    assert (run.smoke_bytes, run.projected_bytes) == (3, 77)


@pytest.mark.parametrize("status", ["train_budget_overrun", "eval_budget_overrun", "discard"])
def test_an_end_by_the_clock_says_nothing(status: str) -> None:
    """So does any end that a smoke run can't speak of."""
    assert smoke.meaning(status, Failure("train", "cpu_budget")) is None


def test_our_own_fault_stays_ours() -> None:
    """Its phase is not the trial's."""
    assert smoke.meaning("harness_abort", Failure("harness", "Sandbox")) == (
        "harness_abort", Failure("harness", "Sandbox"),
    )  # fmt: skip


def test_its_limits() -> None:
    """Each part has the smoke run's seconds; warming up no more than it has in a run."""
    made = smoke.limits(Budget(warmup_seconds=2, smoke_seconds=5, artefact_bytes=9))

    assert (made.warmup_seconds, made.train_seconds, made.eval_seconds, made.artefact_bytes) == (2, 5, 5, 0)


@pytest.mark.slow
def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken trial's smoke run is told while it runs, shown with the outcome, and borne by an audit."""
    train = f"{SMOKE}print('val_loss:', 0.5)\n"
    study = victim.STUDY.replace("train_seconds = 20", "train_seconds = 20\nsmoke_seconds = 10")
    study = study[: study.index("[[gates]]")] + '[[specialists]]\nname = "one"\nsurface = ["train.py"]\n'
    top = plain_repo(tmp_path / "repo", {"train.py": train.encode(), "study.toml": study.encode()})
    (top / "allowed_signers").write_text(f"{Repo.open(top).signer_line()}\n")
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "-m", "begin")
    allowed = [] if shutil.which("bwrap") else ["--allow-unsandboxed"]
    victim.do(top, "run", "--trials", "0", *allowed)
    (top / "train.py").write_text(f"{train}print([][int(smoke)])\n")
    victim.do(top, "propose", "--from-worktree", "-m", "ask an empty list")
    capsys.readouterr()
    victim.do(top, "evaluate", "--plain", *allowed)

    assert re.search(r"  smoke +screen, budget 10 s\n", capsys.readouterr().err)
    trial = next(one.trial for one in Repo.open(top).trials(victim.NAME) if one.trial.operator != "baseline")
    victim.do(top, "show", trial.short)
    shown = capsys.readouterr().out
    assert "preflight_crash  IndexError in smoke train" in shown
    assert "smoke s" in shown
    victim.do(top, "audit")
