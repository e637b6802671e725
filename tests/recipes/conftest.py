"""The nanochat recipe's modules, loaded for a test and forgotten afterwards, and a folder of data for them."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "recipes/nanochat"
Parts = Callable[..., ModuleType]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    """The recipe's files as fresh modules, with constants set: `parts("model", NORM="rms")`."""
    monkeypatch.syspath_prepend(str(RECIPE))

    def forget() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] in ("nano", "train", "predict")]:
            del sys.modules[name]

    def load(name: str, **constants: object) -> ModuleType:
        made = importlib.import_module(name if name in ("train", "predict") else f"nano.{name}")
        for key, value in constants.items():
            assert hasattr(made, key)
            monkeypatch.setattr(made, key, value)
        return made

    forget()
    yield load
    forget()


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three short sources."""
    from tests.recipes.nanochat import TEXT  # not above: without its libraries, other tests of this folder still run

    folder = tmp_path / "data"
    folder.mkdir()
    for name, texts in TEXT.items():
        (folder / f"{name}.txt").write_text("\n\n".join(texts), "utf-8")
    monkeypatch.setenv("GITRESEARCH_DATA", str(folder))
    return folder
