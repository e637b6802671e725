"""Axes: what of a surface there is to change, and which of it an edit changed."""

import pytest

from gitresearch.axes import axes, changed
from gitresearch.surface import Surface

CODE = b"""import torch
LR = 0.1
WIDTH: int = 8


@torch.no_grad()
def step(x):
    return x


class Model:
    def forward(self):
        return 1
"""
FILES = {"train.py": CODE, "notes.md": b"words\n", "broken.py": b"def (", "empty.py": b"", "odd.py": b"\xff\n"}


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["train.py"], ["train.py::LR", "train.py::WIDTH", "train.py::step", "train.py::Model"]),
        (["train.py::step", "train.py::Model.forward", "train.py::no"], ["train.py::step", "train.py::Model.forward"]),
        (["*.md", "broken.py", "empty.py", "odd.py"], ["broken.py", "empty.py", "notes.md", "odd.py"]),
        (["broken.py::x", "odd.py::x", "nothing.py"], []),
    ],
)
def test_the_axes_of_a_surface(patterns: list[str], names: list[str]) -> None:
    """Symbols of Python files, whole files of any other, and nothing that can't be read as either."""
    assert list(axes(FILES, Surface.of(patterns))) == names


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        (b"LR = 0.1", b"LR = 0.2", {"train.py::LR"}),
        (b"no_grad", b"inference_mode", {"train.py::step"}),
        (b"return 1", b"return 2", {"train.py::Model"}),
        (b"LR = 0.1\n", b"", {"train.py::LR"}),
        (b"import torch\n", b"import torch  # fast\n", set()),
    ],
)
def test_what_an_edit_changed(old: bytes, new: bytes, names: set[str]) -> None:
    """The symbols whose text differs, made and deleted ones too."""
    after = {**FILES, "train.py": CODE.replace(old, new)}
    assert changed(FILES, after, Surface.of(["**"])) == names


def test_a_file_that_comes_or_goes() -> None:
    """It changes as a whole."""
    without = {path: data for path, data in FILES.items() if path != "notes.md"}
    assert changed(without, FILES, Surface.of(["**"])) == {"notes.md"} == changed(FILES, without, Surface.of(["**"]))
