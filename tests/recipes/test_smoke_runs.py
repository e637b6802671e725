"""The shipped recipes in smoke runs: their own programs at mini scale, on little data, as they are and broken."""

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gitresearch.evaluate import Evaluator, RunResult
from gitresearch.repo import Repo
from gitresearch.sandbox import Sandbox
from gitresearch.study import Study, load
from tests.build import add_trial, plain_repo
from tests.recipes.airbench import idx

np = pytest.importorskip("numpy", reason="numpy is not installed: pip install 'gitresearch[recipes]'")
pytest.importorskip("torch", reason="torch is not installed: pip install 'gitresearch[recipes]'")
pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install 'gitresearch[recipes]'")
pytestmark = pytest.mark.slow
TOP = Path(__file__).resolve().parents[2]
WORDS = " ".join(f"The {a} {b} saw a {c}." for a in ["red", "old", "dry"] for b in ["cat", "dog", "cow"] for c in "ab")


def golf(hook: ModuleType, top: Path) -> dict[str, Any]:
    """40 chapters of one verse as the fetched text; the settings that name the data."""
    verses = ({"book": "b", "chapter": i, "text": f"{WORDS} {i}"} for i in range(40))
    folder = top / "cache/data" / f"{hook.PACKAGE}-{hook.VERSION}-split{hook.VERSION_TAG}"
    hook._write_splits("\n".join(map(json.dumps, verses)).encode(), folder, hook.splits_of({}))
    return {}


def nanochat(hook: ModuleType, top: Path) -> dict[str, Any]:
    """One source, and two tasks of fifteen items."""
    made = top / "cache/data" / hook.MADE
    for name in ("train", "held_out"):
        (made / name).mkdir(parents=True)
        (made / name / "speeches.txt").write_text(f"{WORDS}\n\n" * 20)
    items = [{"query": f"The {i} cat", "choices": ["saw a", "a saw"], "gold": 0} for i in range(15)]
    words = [{"context": f"The {i} cat saw", "continuation": "a"} for i in range(15)]
    tasks = [("order", "multiple_choice", 50.0, items), ("word", "language_modeling", 0.0, words)]
    hook.beside("bundle").write(made / "held_out/tasks", tasks)
    (made / "digest").write_text(hook.files_digest(made, hook.data_files(made)))
    return {}


def airbench(_hook: ModuleType, top: Path) -> dict[str, Any]:
    """Noise in the form of the images."""
    folder = top / "fashion"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for stem, count in (("train", 2000), ("t10k", 100)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            (folder / f"{stem}-{kind}-ubyte").write_bytes(idx(draw.integers(0, 10, shape, dtype=np.uint8)))
    return {"data": str(folder), "digest": ""}


Data = Callable[[ModuleType, Path], dict[str, Any]]
# For each recipe its data; what makes predictions fail, in its file; and what makes the loss no number.
RECIPES: dict[str, tuple[Data, tuple[str, str, str], tuple[str, str, str]]] = {
    "parameter_golf": (
        golf,
        ("evaluate.py", r"last = out\[:, -1\]", "last = out[:, -2]"),
        ("train.py", r"\(value \* share\)", "(value * float('nan'))"),
    ),
    "nanochat": (
        nanochat,
        ("predict.py", r"marked\.shape\[1\] \+ steps", "marked.shape[1]"),
        ("train.py", r"part = loss\(inputs, targets\)", "part = float('nan') * loss(inputs, targets)"),
    ),
    "airbench": (
        airbench,
        ("predict.py", r"torch\.cat\(classes\)", "torch.cat(classes)[:, 0]"),
        ("train.py", r"each = losses\(", "each = float('nan') * losses("),
    ),
}


def shipped(name: str, settings: dict[str, Any]) -> Study:
    study = load((TOP / "recipes" / name / "study.toml").read_text("utf-8"))
    told = replace(study.evaluator, settings={**study.evaluator.settings, **settings})
    # Seconds that a slow machine needs; a smoke run's are left over.
    budget = replace(study.budget, train_seconds=300.0, eval_seconds=120.0, smoke_seconds=60.0)
    return replace(study, evaluator=told, budget=budget)


def once(name: str, top: Path, change: tuple[str, str, str] | None) -> tuple[RunResult, list[str]]:
    """A trial of the shipped recipe with one change, and the phases that its run went through."""
    spec = importlib.util.spec_from_file_location("smoked_hook", TOP / f"evaluator_hooks/{name}/hook.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    study = shipped(name, RECIPES[name][0](hook, top))
    paths = [*(TOP / "recipes" / name).rglob("*.py"), *(TOP / "evaluator_hooks" / name).glob("*.py")]
    files = {path.relative_to(TOP).as_posix(): path.read_bytes() for path in paths}
    repo = Repo.open(plain_repo(top / "repo", files), durable=False)
    repo.pin_study(study.name, repo.head_commit())
    program = shutil.which("bwrap")
    box = Sandbox("bubblewrap", "bubblewrap", program) if program else Sandbox("none", "limits only")
    phases: dict[str, None] = {}
    edits: dict[str, bytes | None] = {"recipes/note.txt": b"x"}
    if change is not None:
        path = f"recipes/{name}/{change[0]}"
        text, count = re.subn(change[1], change[2], files[path].decode())
        assert count >= 1
        edits = {path: text.encode()}
    trial = add_trial(repo, "try this", edits=edits, study=study.name)
    with closing(
        Evaluator(repo, study, repo.head_commit(), box, top / "cache", lambda event: phases.setdefault(event.phase))
    ) as evaluator:
        evaluator.prepare()
        return evaluator.run(trial, 7, "screen"), list(phases)


@pytest.mark.parametrize("name", RECIPES)
def test_a_crash_in_prediction_costs_no_training(name: str, tmp_path: Path) -> None:
    """The recipe's three steps leave an artefact, and the first questions show that it can't be asked."""
    result, phases = once(name, tmp_path, RECIPES[name][1])

    assert result.failure is not None
    assert (result.run.status, result.failure.phase) == ("preflight_crash", "smoke score"), result.failure
    assert phases == ["preflight", "smoke", "done"]
    assert result.run.smoke_bytes > 0


@pytest.mark.parametrize("name", RECIPES)
def test_a_loss_that_is_no_number_is_found_in_three_steps(name: str, tmp_path: Path) -> None:
    """Where it is so from the beginning."""
    result, phases = once(name, tmp_path, RECIPES[name][2])

    assert result.failure is not None
    assert (result.run.status, result.failure.phase) == ("preflight_crash", "smoke train")
    assert result.failure.label in ("not_finite", "FloatingPointError")
    assert phases == ["preflight", "smoke", "done"]


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_as_it_ships_goes_on(name: str, tmp_path: Path) -> None:
    """It passes its smoke run, whose artefact has the shapes of the trained one, and is scored afterwards."""
    result, phases = once(name, tmp_path, None)

    assert result.run.status == "ok", result.failure
    assert phases == ["preflight", "smoke", "train", "score", "done"]
    assert result.run.smoke_bytes == pytest.approx(result.run.artefact_bytes, rel=0.2)
    assert result.run.smoke_seconds > 0
