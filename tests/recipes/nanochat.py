"""What the tests of the nanochat hook share: the hook, a small bundle that copying solves, and predictors."""

import contextlib
import importlib.util
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install 'gitresearch[recipes]'")
TOP = Path(__file__).resolve().parents[2]
RECIPE = TOP / "recipes/nanochat"
HOOK = TOP / "evaluator_hooks/nanochat/hook.py"
CAP = {"limits": {"artefact_bytes": 2_000_000}, "settings": {}}
TEXT = {
    "speeches": [
        "We the people of these states meet here again. The people are free. É ÿ",
        "Peace is our aim. Peace is our work.",
    ]
    * 30,
    "bible": ["In the beginning God created the heaven and the earth. And the earth was without form, and void."] * 30,
    "novel": ["Call me Ishmael. Some years ago I went to sea."] * 10,
}
Rows = list[list[int]]
Guess = Callable[[Rows], Any]  # rows so far -> logits (rows, vocab)


def load() -> ModuleType:
    """The hook as a fresh module, so that a test may change its constants."""
    spec = importlib.util.spec_from_file_location("nanochat_hook", HOOK)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


hook = load()
core, bundle, builder, corpus = (hook.beside(name) for name in ("core", "bundle", "builder", "corpus"))


ITEMS = {
    "choice": ("multiple_choice", 50.0, [
        {"query": f"say {a}", "choices": [a * 3, b * 5], "gold": 0} if i % 2 else
        {"query": f"say {a}", "choices": [b * 5, a * 3], "gold": 1}
        for i, (a, b) in enumerate(zip("abcdefgh", "pqrstuvw", strict=True))
    ]),
    "which": ("schema", 50.0, [
        {"context_options": [f"the {a}", f"the {b}z"], "continuation": a * 2, "gold": 0}
        for a, b in zip("abcdefgh", "pqrstuvw", strict=True)
    ]),
    "copy": ("language_modeling", 0.0, [{"context": f"x{a} y{a} x", "continuation": a} for a in "abcdefgh"]),
}  # fmt: skip


def served(guess: Guess) -> Callable[..., None]:
    """A predictor that answers as it is asked, with the logits that a function of the rows so far gives."""

    def serve(header, source, out):  # type: ignore[no-untyped-def]
        for _ in range(header["batches"]):
            asked = json.loads(source.readline())
            count = asked["rows"]
            lengths = np.frombuffer(source.read(4 * count), dtype="<i4")
            table = np.frombuffer(source.read(4 * count * asked["length"]), dtype="<i4").reshape(count, -1)
            rows: Rows = [list(row[:length]) for row, length in zip(table, lengths, strict=True)]
            alive = np.ones(count, dtype=bool)
            for step in range(asked["steps"]):
                if step:
                    tokens = np.frombuffer(source.read(4 * count), dtype="<i4")
                    alive = tokens >= 0
                    for row, token in zip(rows, tokens, strict=True):
                        row.extend([int(token)] if token >= 0 else [])
                out.write(np.asarray(guess(rows))[alive].astype("<f4").tobytes())
                out.flush()

    return serve


def scored(held_out: Path, artefact: Path, predictor: Callable[..., None], **settings: object) -> dict[str, Any]:
    """Score with a predictor that is a function of the header and the two pipes."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    def run() -> None:
        hung_up = contextlib.suppress(OSError, ValueError)  # by the hook
        with hung_up, os.fdopen(to_read, "rb") as source, os.fdopen(from_write, "wb") as out:
            predictor(json.loads(source.readline()), source, out)

    thread = threading.Thread(target=run)
    thread.start()
    request = {
        "artefact": str(artefact),
        "held_out": str(held_out),
        "settings": {"rows": 16, "asked_twice": 6} | settings,
    }
    reply = hook.answer("score", request | {"to_trial": to_write, "from_trial": from_read})
    thread.join(10)
    assert isinstance(reply, dict)
    return reply


def uniform(rows: Rows) -> Any:
    return np.zeros((len(rows), 256))


def copier(rows: Rows) -> Any:
    """Bytes that stood in the row before are likelier, the last of them most: an honest model that can copy."""
    out = np.zeros((len(rows), 256))
    for logits, row in zip(out, rows, strict=True):
        logits[ord(" ")] = 20.0 if row[-1:] == [ord("x")] else 0.0
        for age, byte in enumerate(reversed(row)):
            if chr(byte) not in " xy":
                logits[byte] = max(logits[byte], 8.0 - 0.01 * age)
    return out
