"""Random combinations of the recipes' levers: what the offline agent may propose trains and predicts, or says why not.

Each combination is the shipped program with about a third of its levers drawn from their domains, run as a smoke run
on made-up data, and its predictor on what that left. torch takes seconds to import: one process does, and forks for
each. Not the tests' own, where torch may have threads by then.

    python tests/recipes/test_lever_combinations.py golf 0 40    # more of them
"""

import io
import json
import os
import random
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gitresearch import share
from gitresearch.agents.offline.domain import Choice
from gitresearch.agents.offline.find import find
from gitresearch.agents.offline.levers import applied
from gitresearch.agents.offline.literals import Value

pytest.importorskip("torch", reason="torch is not installed: pip install 'gitresearch[recipes]'")
pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install 'gitresearch[recipes]'")
pytestmark = pytest.mark.slow
TOP = Path(__file__).resolve().parents[2]
ALLOWED = "FloatingPointError"  # a rate too high for its optimiser: the loss is no number, and the recipe says so


def text(size: int) -> str:
    """Sentences of made-up words, with capitals and full stops."""
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(1, 9))) for _ in range(400)]
    found: list[str] = []
    while sum(map(len, found)) < size:
        sentence = " ".join(rng.choices(words, k=rng.randint(4, 20))).capitalize() + "."
        found.append(sentence + ("\n\n" if rng.random() < 0.1 else " "))
    return "".join(found)


def golf_data(folder: Path) -> None:
    (folder / "train.txt").write_text(text(60_000))


def nanochat_data(folder: Path) -> None:
    for name in ("speeches", "bible", "novel"):
        (folder / f"{name}.txt").write_text(text(40_000))


def airbench_data(folder: Path) -> None:
    labels = np.arange(1500, dtype=np.uint8) % 10
    np.save(folder / "images", np.random.default_rng(1).integers(0, 255, (1500, 1, 28, 28), dtype=np.uint8))
    np.save(folder / "labels", labels)


def ints(*values: int) -> bytes:
    return np.array(values, dtype="<i4").tobytes()


def vocab_of(artefact: Path) -> int:
    return 256 + len(json.loads((artefact / "tokenizer.json").read_text())["merges"])


def golf_asks(artefact: Path) -> tuple[bytes, int]:
    """Three streams, a step longer than any context; 4 bytes a logit."""
    vocab, steps = vocab_of(artefact), 270
    asked = json.dumps({"streams": 3, "steps": steps, "vocab": vocab}).encode() + b"\n"
    return asked + ints(*(i % vocab for i in range(3 * (steps - 1)))), 4 * 3 * steps * vocab


def nanochat_asks(artefact: Path) -> tuple[bytes, int]:
    """Two rows of which one ends after the first of two steps."""
    vocab = vocab_of(artefact)
    asked = json.dumps({"vocab": vocab, "batches": 1, "dtype": "float32"}).encode() + b"\n"
    asked += json.dumps({"rows": 2, "length": 5, "steps": 2}).encode() + b"\n"
    return asked + ints(5, 3) + ints(*range(10)) + ints(7, -1), 4 * 3 * vocab


def airbench_asks(_artefact: Path) -> tuple[bytes, int]:
    """Thirty images; a class for each."""
    asked = json.dumps({"images": 30, "shape": [1, 28, 28], "classes": 10}).encode() + b"\n"
    return asked + bytes(range(256)) * 100, 4 * 30


Data = Callable[[Path], None]
Asks = Callable[[Path], tuple[bytes, int]]
TASKS: dict[str, tuple[Data, Asks]] = {
    "golf": (golf_data, golf_asks),
    "nanochat": (nanochat_data, nanochat_asks),
    "airbench": (airbench_data, airbench_asks),
}

SEEDS = {"golf": 12, "nanochat": 8, "airbench": 30}  # 4, 6 and 1 s each


def drawn(rng: random.Random, files: dict[str, bytes]) -> tuple[dict[str, bytes], list[str]]:
    """The files with some levers set anew, and which; of those that do something where the others are set so."""
    levers = [lever for path, data in files.items() for lever in find(path, data)]
    values: dict[str, Value] = {f"{lever.path}::{lever.name}": lever.value for lever in levers}
    chosen = {}
    for lever in levers:
        if rng.random() < 0.35:
            domain = lever.domain
            value = rng.choice(domain.options) if isinstance(domain, Choice) else domain.value(rng.random())
            values[f"{lever.path}::{lever.name}"] = value
            chosen[lever.key] = lever, value
    kept = [(lever, value) for lever, value in chosen.values() if lever.works(values)]
    splices = [splice for lever, value in kept for splice in lever.splices(value)]
    return files | applied(files, splices), [f"{lever.name}={value}" for lever, value in kept]


def in_a_fork(tree: Path, program: str, env: dict[str, str], stdin: bytes, stdout: Path) -> str:
    """Run a program of the tree in a process of its own; its traceback, or nothing."""
    said = stdout.with_suffix(".err")
    (asked := stdout.with_suffix(".in")).write_bytes(stdin)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(tree)
            os.environ.update(env)
            sys.path.insert(0, str(tree))
            sys.dont_write_bytecode = True
            with asked.open("rb") as source, stdout.open("wb") as out, said.open("wb") as err:
                for new, old in ((source, 0), (out, 1), (err, 2)):
                    os.dup2(new.fileno(), old)
                sys.stdin, sys.stdout = io.TextIOWrapper(io.FileIO(0)), io.TextIOWrapper(io.FileIO(1, "w"))
                sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), write_through=True)
                try:
                    runpy.run_path(program, run_name="__main__")
                    sys.stdout.flush()
                    code = 0
                except BaseException:
                    os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return (said.read_text("utf-8", "replace")[-1500:] or f"ended with status {status}") if status else ""


def tried(task: str, seed: int, top: Path) -> tuple[bool, str]:
    """One combination's way: whether it went all of it, and what went wrong, with what was set."""
    data, asks = TASKS[task]
    recipe, rng = share.recipe(task), random.Random(seed)
    files = {str(path.relative_to(recipe)): path.read_bytes() for path in sorted(recipe.rglob("*.py"))}
    made, told = drawn(rng, files)
    tree, artefact, shown = top / "tree", top / "artefact", top / "data"
    for folder in (tree, artefact, shown):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for path, content in made.items():
        (tree / path).parent.mkdir(exist_ok=True)
        (tree / path).write_bytes(content)
    data(shown)
    env = {"GITRESEARCH_DATA": str(shown), "GITRESEARCH_ARTEFACT": str(artefact), "GITRESEARCH_SEED": str(seed)}
    env |= {"GITRESEARCH_TRAIN_SECONDS": "10000", "GITRESEARCH_SMOKE": "1"}
    found = in_a_fork(tree, "train.py", env, b"", top / "train.out")
    if not found:
        asked, size = asks(artefact)
        found = in_a_fork(tree, "predict.py", env, asked, top / "predict.out")
        answer = (top / "predict.out").read_bytes()
        if not found and len(answer) != size:
            found = f"{len(answer)} bytes of answer, not {size}"
        if not found and task != "airbench" and not np.isfinite(np.frombuffer(answer, dtype="<f4")).all():
            found = "an answer that is not finite"
    wrong = f"{task} {seed}: {', '.join(told)}\n{found}" if found and ALLOWED not in found else ""
    return not found, wrong


@pytest.mark.parametrize("task", TASKS)
def test_combinations_of_levers_train_and_predict(task: str) -> None:
    """Some of each recipe, always the same ones; most have rates at which they learn."""
    argv = [sys.executable, __file__, task, "0", str(SEEDS[task])]
    env = os.environ | {"PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=600)
    *failed, last = done.stdout.splitlines()

    assert not failed, done.stdout[-6000:]
    assert int(last) >= 0.6 * SEEDS[task]


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        whole = 0
        for number in range(int(sys.argv[2]), int(sys.argv[3])):
            went, wrong = tried(sys.argv[1], number, Path(folder))
            whole += went
            if wrong:
                sys.stdout.write(f"{wrong}\n")
        sys.stdout.write(f"{whole}\n")
