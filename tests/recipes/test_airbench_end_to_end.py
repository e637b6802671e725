"""The airbench study through the evaluator: its clock and its gate, and a real training on real images."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gitresearch.agents.offline.domain import Choice
from gitresearch.agents.offline.find import find
from gitresearch.decision import Reference, verdict
from gitresearch.errors import GitResearchError
from gitresearch.evaluate import Evaluator, RunResult
from gitresearch.outcome import Run
from gitresearch.repo import Repo
from gitresearch.study import Objective, Study, load
from tests.build import add_trial, plain_repo
from tests.recipes.airbench import FILES, RECIPE, STUDY, TOP, TRAIN, made_up, small, with_hook
from tests.recipes.through_the_lab import strongest


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """The made-up images."""
    return made_up(tmp_path / "fashion")


def begin(top: Path, study: Study, files: Mapping[str, str]) -> Evaluator:
    """A repository with the study's hook and these files, and an evaluator that is ready."""
    repo = Repo.open(plain_repo(top / "repo", with_hook(files)), durable=False)
    repo.pin_study(study.name, repo.head_commit())
    evaluator = Evaluator(repo, study, repo.head_commit(), strongest(), top / "cache")
    evaluator.prepare()
    return evaluator


def one_run(evaluator: Evaluator) -> RunResult:
    """Of a trial that changes nothing which matters."""
    repo = evaluator.source
    assert isinstance(repo, Repo)
    trial = add_trial(repo, "try this", edits={"recipes/airbench/n.txt": b"x"}, study=STUDY.name)
    with closing(evaluator):
        return evaluator.run(trial, 1, "screen")


def test_a_good_run_is_scored_by_all_its_seconds(tmp_path: Path, fashion: Path) -> None:
    """The evaluator's clock makes the score, the hook's count the gate."""
    result = one_run(begin(tmp_path, small(fashion), FILES))

    assert result.failure is None
    assert result.run.metrics["correct"] == 45
    assert result.run.metrics["relative_seconds"] == result.run.relative_seconds
    assert result.run.total_seconds >= result.run.train_seconds > 0
    assert result.environment["trust"] == "scored"


@pytest.mark.parametrize(
    ("counts", "status"),
    [((8799, 8800, 8801), "keep"), ((8800, 8800, 8799), "disqualified"), ((8700,), "disqualified")],
)
def test_the_gate_is_the_mean_over_seeds_of_whole_numbers(counts: tuple[int, ...], status: str) -> None:
    """Exactly 88 % on the mean passes, a single image less over three runs doesn't, however fast the trial is."""
    runs = [Run(i, "head", "ok", metrics={"correct": float(c), "relative_seconds": 0.5}) for i, c in enumerate(counts)]

    assert verdict(STUDY, runs, Reference("head", 0.9, 3)).status == status


def test_wrong_data_is_said_before_a_trial_is_spent(tmp_path: Path, fashion: Path) -> None:
    """The study that ships names its data's digest; other images are refused with a command to type."""
    wanted = replace(STUDY.evaluator, settings={**STUDY.evaluator.settings, "data": str(fashion)})
    with pytest.raises(GitResearchError, match="and this study is about") as caught:
        begin(tmp_path, replace(STUDY, evaluator=wanted), {"recipes/airbench/train.py": TRAIN})
    assert caught.value.hint == "export GITRESEARCH_DATA_AIRBENCH=DIR"


def test_the_full_study_differs_in_scale_alone() -> None:
    """Both sizes are one question to the same specialists, of all seconds and with a gate in images."""
    full = load((RECIPE / "full/study.toml").read_text("utf-8"))

    assert [replace(who, hints={}) for who in STUDY.specialists] == list(full.specialists)  # full begins with its hints
    assert (full.recipe, full.evaluator.hook) == (STUDY.recipe, STUDY.evaluator.hook)
    assert [study.objective for study in (STUDY, full)] == [Objective("relative_seconds"), Objective("total_seconds")]
    assert [gate.limit for gate in (*STUDY.gates, *full.gates)] == [8800, 9600]
    assert (full.budget.clock, full.budget.accelerator) == ("wall", True)


def test_every_specialist_has_structure_to_move_and_no_other_has_it() -> None:
    """Each surface has levers that choose between pieces of code, or numbers that begin at off; none is two's but the
    epochs, which every gain is spent on."""
    shared = "recipes/airbench/optimizer.py::EPOCHS"
    own = {who.name: [path for path in who.surface if path != shared] for who in STUDY.specialists}
    assert all(shared in who.surface or "recipes/airbench/optimizer.py" in who.surface for who in STUDY.specialists)
    for surface in own.values():
        found = [lever for path in surface for lever in find(path, (TOP / path).read_bytes())]
        choices = [lever for lever in found if isinstance(lever.domain, Choice)]
        assert len(found) >= 4
        assert choices
        assert all(lever.value in lever.domain.options for lever in choices)
    paths = [path for surface in own.values() for path in surface]
    assert len(set(paths)) == len(paths)


@pytest.mark.slow
@pytest.mark.net
def test_the_recipe_meets_its_gate_on_the_real_images(tmp_path: Path) -> None:
    """Fetched, trained, weighed and scored as `run` does it: within its limits, and above the gate."""
    pytest.importorskip("torch", reason="torch is not installed: pip install 'gitresearch[recipes]'")
    files = {f"recipes/airbench/{path.name}": path.read_text("utf-8") for path in RECIPE.glob("*.py")}
    try:
        evaluator = begin(tmp_path, STUDY, files)
    except GitResearchError as error:
        pytest.skip(error.message)
    result = one_run(evaluator)

    assert result.failure is None
    assert result.run.metrics["correct"] >= 8800
    assert result.run.artefact_bytes < STUDY.budget.artefact_bytes
    assert result.binding["data"] == STUDY.evaluator.settings["digest"]
