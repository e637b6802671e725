"""What the tests of airbench as a whole share: the study that ships, made-up images, and tiny programs for them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gitresearch.study import Study, load

np = pytest.importorskip("numpy", reason="numpy is not installed: pip install 'gitresearch[recipes]'")
TOP = Path(__file__).resolve().parents[2]
RECIPE = TOP / "recipes/airbench"
HOOK = "evaluator_hooks/airbench/hook.py"
STUDY = load((RECIPE / "study.toml").read_text("utf-8"))
# Tiny programs in the place of the recipe's: one leaves a byte, the other calls each image by its first pixel.
READY = """
import os
ready = int(os.environ["GITRESEARCH_READY"])
assert not os.listdir(os.environ["GITRESEARCH_DATA"])
os.write(ready, b"1")
os.read(ready, 1)
"""
TRAIN = f"""{READY}
assert sorted(os.listdir(os.environ["GITRESEARCH_DATA"])) == ["images.npy", "labels.npy"]
open(os.environ["GITRESEARCH_ARTEFACT"] + "/weights.pt", "wb").write(b"w")
"""
PREDICT = """
import json, sys
header = json.loads(sys.stdin.buffer.readline())
assert "GITRESEARCH_DATA" not in __import__("os").environ
data = sys.stdin.buffer.read()
size = len(data) // header["images"]
answers = b"".join(bytes([data[i], 0, 0, 0]) for i in range(0, len(data), size))
sys.stdout.buffer.write(answers)
"""
SPIN = "while True: pass\n"
FILES = {"recipes/airbench/train.py": TRAIN, "recipes/airbench/predict.py": PREDICT}


def with_hook(files: Mapping[str, str]) -> dict[str, bytes]:
    """A repository's content: the task's hook and these files."""
    return {HOOK: (TOP / HOOK).read_bytes()} | {name: text.encode() for name, text in files.items()}


def idx(array: Any) -> bytes:
    """An array of bytes as an IDX file."""
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


def made_up(folder: Path) -> Path:
    """Images whose first pixel is the label; of the 50 test images every tenth lies."""
    folder.mkdir()
    for stem, count in (("train", 30), ("t10k", 50)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 0, 0] = labels
        if stem == "t10k":
            images[::10, 0, 0] = 5
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


def small(fashion: Path, **budget: Any) -> Study:
    """The study that ships, on the made-up images and with other limits."""
    settings = replace(STUDY.evaluator, settings={"data": str(fashion)})
    return replace(STUDY, evaluator=settings, budget=replace(STUDY.budget, **budget))
