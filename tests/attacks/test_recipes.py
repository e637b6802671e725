"""Malicious recipes: each gains nothing here, and would from an evaluator that is weaker by one rule."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

from tests.attacks import recipes
from tests.attacks.stage import BWRAP, Recipe, Stage

NAMES = [found.name for found in pkgutil.iter_modules(recipes.__path__)]


def recipe(name: str) -> Recipe:
    found = importlib.import_module(f"tests.attacks.recipes.{name}").RECIPE
    assert isinstance(found, Recipe)
    return found


CASES = [pytest.param(name, marks=[] if recipe(name).fast else [pytest.mark.slow]) for name in NAMES]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("stage"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def honest(stage: Stage) -> float:
    """What an honest recipe scores."""
    found = stage.run(Recipe(), None).bits
    assert found is not None
    assert 0.5 < found < 1
    return found


@pytest.mark.parametrize("name", CASES)
def test_it_gains_nothing(name: str, stage: Stage, honest: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends as it must and nothing is gained; where one rule is left out, it is."""
    attack = recipe(name)
    if BWRAP is None or not attack.needs():
        pytest.skip("bubblewrap is not installed" if BWRAP is None else "the machine has no such hole")
    for target, stand_in in attack.both.items():
        monkeypatch.setattr(target, stand_in)
    seen = stage.run(attack, None, honest)
    assert seen.status == attack.status, seen.told
    assert not attack.gained(seen)
    for target, stand_in in attack.weak.without.items():
        monkeypatch.setattr(target, stand_in)
    assert attack.gained(stage.run(attack, attack.weak, honest))


def test_each_says_what_it_is() -> None:
    """One sentence for whoever reads the list."""
    for name in NAMES:
        told = (importlib.import_module(f"tests.attacks.recipes.{name}").__doc__ or "").strip()
        assert told.endswith(".")
        assert "\n" not in told
