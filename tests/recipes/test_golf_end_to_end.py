"""The golf recipe as a whole: the predictor over its windows, and a real training on the real text."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gitresearch[recipes]'")
torch.set_num_threads(1)
HERE = Path(__file__).resolve().parent
RECIPE = HERE.parents[1] / "recipes/parameter_golf"
NAMES = ("model", "evaluate")


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The recipe's modules, loaded afresh and forgotten afterwards."""
    monkeypatch.syspath_prepend(str(RECIPE))
    for name in NAMES:
        sys.modules.pop(name, None)
    yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.mark.slow
@pytest.mark.parametrize("position", ["learned", "rotary", "none"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("shift", [False, True])
def test_the_predictor_sees_its_window_and_nothing_else(
    recipe: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, position: str, keep: float, shift: bool
) -> None:
    """Across every new window, a prediction equals the whole network's over the tokens in view."""
    model, evaluate = recipe["model"], recipe["evaluate"]
    monkeypatch.setattr(model, "POSITION", position)
    monkeypatch.setattr(model, "TOKEN_SHIFT", shift)
    monkeypatch.setattr(evaluate, "CONTEXT", 12)
    monkeypatch.setattr(evaluate, "KEEP", keep)
    torch.manual_seed(0)
    net = model.GPT(260).eval()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    tokens = torch.randint(260, (3, 40))
    predictor = evaluate.Predictor(net, 3)
    for step in range(tokens.shape[1]):
        got = predictor.logits()
        seen = predictor.history
        with torch.inference_mode():
            whole, _ = net(seen)

        assert 1 <= seen.shape[1] <= 12
        assert torch.equal(seen[:, 1:], tokens[:, step - seen.shape[1] + 1 : step])
        torch.testing.assert_close(got, whole[:, -1] / evaluate.TEMPERATURE, atol=2e-4, rtol=1e-3)
        predictor.observe(tokens[:, step])


@pytest.mark.slow
@pytest.mark.net
def test_the_recipe_fits_its_budgets_on_the_real_text(tmp_path: Path) -> None:
    """Fetched, trained in 15 CPU seconds, weighed, scored: the artefact fits and the score is that of a model."""
    spec = importlib.util.spec_from_file_location("standalone", HERE / "standalone.py")
    assert spec is not None
    assert spec.loader is not None
    standalone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(standalone)
    splits = standalone.reply(standalone.hook("prepare", {"cache": str(tmp_path)}))
    if "error" in splits:
        pytest.skip(splits["error"])
    found = standalone.run(splits, seed=1, seconds=15.0, settings=[])

    assert found["artefact_bytes"] <= 160_000
    assert found["train_cpu_s"] <= 15.0
    assert 1.5 < found["metrics"]["val_bpb"] < 4.0
