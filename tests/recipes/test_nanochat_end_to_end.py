"""The nanochat study as it ships, through the lab: every label that a trial of it can end with, and real training."""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gitresearch.outcome import Outcome
from gitresearch.repo import Repo
from gitresearch.study import load
from tests.build import plain_repo
from tests.recipes.through_the_lab import assessed, strongest

pytest.importorskip("torch", reason="torch is not installed: pip install 'gitresearch[recipes]'")
pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install 'gitresearch[recipes]'")
HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
ROOT = "recipes/nanochat"
TRAIN = """
import os
def leave(name, data):
    open(os.path.join(os.environ["GITRESEARCH_ARTEFACT"], name), "wb").write(data)
leave("tokenizer.json", b'{"merges": []}')
leave("weights.bin", bytes(1000))
"""
# Logits by the row's last token, for the 256 byte tokens; `line` gives them.
PREDICT = """
import json, struct, sys
source, out = sys.stdin.buffer, sys.stdout.buffer
header = json.loads(source.readline())
{line}
for batch in range(header["batches"]):
    asked = json.loads(source.readline() or sys.exit())
    source.read(4 * asked["rows"] * (1 + asked["length"]))
    alive = asked["rows"]
    for step in range(asked["steps"]):
        if step:
            tokens = source.read(4 * asked["rows"])
            alive = sum(tokens[i + 3] < 128 for i in range(0, len(tokens), 4))
        out.write(line(batch) * alive)
        out.flush()
"""
FLAT = "def line(batch): return bytes(1024)"
TEXT = " ".join(f"The {a} {b} saw a {c}." for a in ["red", "old", "dry"] for b in ["cat", "dog", "cow"] for c in "ab")


def module(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


Run = Callable[..., Outcome]
SHIPPED = load((TOP / ROOT / "study.toml").read_text("utf-8"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a trial of the shipped study, on a small made text, with other programs and budgets."""
    hook = module(TOP / "evaluator_hooks/nanochat/hook.py", "nanochat_hook")
    made = tmp_path / "cache/data" / hook.MADE
    for name in ("train", "held_out"):
        (made / name).mkdir(parents=True)
        (made / name / "speeches.txt").write_text(f"{TEXT}\n\n" * 20)
    items = [{"query": f"The {a} cat", "choices": ["saw a", "a saw"], "gold": 0} for a in ("red", "old", "dry")]
    words = [{"context": f"The {a} cat saw", "continuation": "a"} for a in ("red", "old", "dry")]
    hook.beside("bundle").write(
        made / "held_out/tasks", [("order", "multiple_choice", 50.0, items), ("word", "language_modeling", 0.0, words)]
    )
    (made / "digest").write_text(hook.files_digest(made, hook.data_files(made)))
    paths = [*(TOP / "evaluator_hooks/nanochat").glob("*.py"), *(TOP / ROOT).rglob("*.py")]
    files = {path.relative_to(TOP).as_posix(): path.read_bytes() for path in paths}
    repo = Repo.open(plain_repo(tmp_path / "repo", files), durable=False)

    def once(files: dict[str, bytes | str], best: float = -1.0, **budget: Any) -> Outcome:
        study = replace(SHIPPED, budget=replace(SHIPPED.budget, **budget))
        edits = {f"{ROOT}/{name}": text if isinstance(text, bytes) else text.encode() for name, text in files.items()}
        return assessed(repo, study, strongest(), tmp_path / "cache", edits, best)

    return once


STUBS: dict[str, bytes | str] = {"train.py": TRAIN, "predict.py": PREDICT.format(line=FLAT)}
SPIN = "while True: pass"
NAN = "def line(batch): return struct.pack('<f', float('nan')) * 256"
NARROW = "def line(batch): return bytes(1020)"
LEARNS = "def line(batch): return struct.pack('<256f', *(batch * i / 99 for i in range(256)))"
ENDS: dict[str, tuple[dict[str, bytes | str], dict[str, Any], str, str]] = {
    "does not parse": ({"nano/model.py": "def f(:"}, {}, "preflight_crash", "nano/model.py:1"),
    "code too large": ({"table.bin": bytes(range(256)) * 2000}, {"artefact_bytes": 900}, "size_blocked", "code alone"),
    "artefact too large": ({"train.py": TRAIN + "leave('more', os.urandom(3_000_000))"}, {}, "size_blocked", "over"),
    "trains too long": ({"train.py": SPIN}, {"train_seconds": 0.5}, "train_budget_overrun", "stopped after"),
    "predicts too long": ({"predict.py": SPIN}, {"eval_seconds": 0.5}, "eval_budget_overrun", "stopped after"),
    "training fails": ({"train.py": "raise ValueError('no such rate')"}, {}, "crash", "no such rate"),
    "predicts no number": ({"predict.py": PREDICT.format(line=NAN)}, {}, "crash", "not finite"),
    "predicts too narrow": ({"predict.py": PREDICT.format(line=NARROW)}, {"clock": "wall", "eval_seconds": 3},
                            "eval_budget_overrun", "bytes of a prediction"),
    "predicts too much": ({"predict.py": PREDICT.format(line=FLAT) + "out.write(b'x')"}, {}, "invalid", "more than"),
    "takes too much memory": ({"train.py": "x = bytearray(1 << 30)\n" + SPIN}, {"memory_mb": 300}, "resource_limit",
                              "peak memory"),
    "no file": ({"train.py": TRAIN + "os.symlink('/etc/passwd', os.environ['GITRESEARCH_ARTEFACT'] + '/x')"}, {},
                "invalid", "no ordinary file"),
    "learns from items": ({"predict.py": PREDICT.format(line=LEARNS)}, {}, "invalid", "changes by"),
    "no artefact": ({"train.py": "pass"}, {}, "invalid", "0 files"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_every_status_can_occur(run: Run, end: str) -> None:
    """Each way to fail has its own label, and the line that shows it."""
    files, budget, status, told = ENDS[end]
    found = run({**STUBS, **files}, **budget)

    assert found.summary.status == status
    assert found.failure is not None
    assert told in "\n".join(found.failure.lines)


@pytest.mark.slow
def test_a_missed_gate_disqualifies(run: Run) -> None:
    """A predictor that is no language model is measured, and its eight bits a byte are over the study's gate."""
    found = run(STUBS)

    assert found.runs[0].status == "ok"
    assert found.runs[0].metrics["val_bpb"] == pytest.approx(8.0)
    assert found.summary.status == "disqualified"
    assert "val_bpb" in found.summary.reason


@pytest.mark.slow
def test_the_recipe_trains_and_is_scored_in_the_sandbox(run: Run) -> None:
    """The shipped programs, on few steps: a score above chance from an artefact under its cap."""
    schedule = (TOP / ROOT / "nano/schedule.py").read_text("utf-8").replace("= 300", "= 100")
    found = run({"nano/schedule.py": schedule}, best=1.0, train_seconds=60, eval_seconds=60)

    assert found.summary.status == "discard", found.failure
    assert found.runs[0].metrics["mini_core"] > 0.3
    assert found.runs[0].metrics["val_bpb"] < 3.0
    assert found.runs[0].artefact_bytes < 2_000_000


SMALL = {
    "nano/model.py": {"WIDTH": "32", "HEADS": "2", "DEPTH": "3", "WINDOW": "8", "MAX_LENGTH": "128"},
    "nano/schedule.py": {"STEPS": "8"},
    "nano/tokenizer.py": {"VOCAB": "320"},
    "nano/data.py": {"SEQUENCE": "32", "BATCH": "4", "TEXT_BYTES": "2000"},
    "nano/system.py": {"DEVICE": '"cpu"', "COMPILE": "False", "PROCESSES": "2"},
}


def full_program(tree: Path) -> None:
    """The recipe with the full scale's constants, but for sizes, the device, the compiler and the processes."""
    shutil.copytree(TOP / ROOT, tree, ignore=shutil.ignore_patterns("__pycache__"))
    wanted = tomllib.loads((tree / "full/constants.toml").read_text("utf-8"))
    for file, constants in wanted.items():
        text = (tree / file).read_text("utf-8")
        for name, told in (constants | SMALL.get(file, {})).items():
            value = told["value"] if isinstance(told, dict) else told
            text, count = re.subn(rf"(?m)^({name}(?:: .*?)?) = \S+", rf"\1 = {value}", text)
            assert count == 1
        (tree / file).write_text(text, "utf-8")


@pytest.mark.slow
def test_the_full_scale_program_trains_in_two_processes_and_has_a_core(tmp_path: Path) -> None:
    """Over gloo, bfloat16, text read on from two kinds of files; the 22 tasks' bundle is scored as core."""
    standalone = module(HERE / "standalone_nanochat.py", "standalone_nanochat")
    hook = module(TOP / "evaluator_hooks/nanochat/hook.py", "nanochat_hook")
    tree, artefact, provided = tmp_path / "tree", tmp_path / "artefact", tmp_path / "provided"
    full_program(tree)
    artefact.mkdir()
    (provided / "train").mkdir(parents=True)
    (provided / "train/a.jsonl").write_text(f'{{"text": "{TEXT}"}}\n' * 40)
    (provided / "train/a1.txt").write_text(f"{TEXT}\n\n" * 40)
    (provided / "held_out").mkdir()
    (provided / "held_out/val.txt").write_text(TEXT * 400)
    items = [{"query": f"The {a} cat", "choices": ["saw a", "a saw"], "gold": 0} for a in ("red", "old", "dry")]
    tasks = [(f"task{i}", "multiple_choice", 50.0, items) for i in range(22)]
    hook.beside("bundle").write(provided / "held_out/eval_bundle", tasks)
    settings = {"scale": "full", "data": str(provided), "logits": "float16", "tolerance": 0.5, "rows": 64}
    splits = hook.answer("prepare", {"cache": "", "settings": settings})
    env = os.environ | {"GITRESEARCH_DATA": splits["train"], "GITRESEARCH_ARTEFACT": str(artefact)}
    env |= {"GITRESEARCH_SEED": "3", "GITRESEARCH_TRAIN_SECONDS": "600", "PYTHONDONTWRITEBYTECODE": "1"}
    ours, theirs = socket.socketpair()
    told = env | {"GITRESEARCH_PROGRESS": str(theirs.fileno())}
    train, handed = [sys.executable, "train.py"], [theirs.fileno()]
    subprocess.run(train, cwd=tree, env=told, pass_fds=handed, check=True, timeout=300)
    theirs.close()
    assert [line.split()[:2] for line in ours.makefile()] == [["8", "8"]]
    ours.close()
    to_trial, theirs = os.pipe(), os.pipe()
    predict = subprocess.Popen([sys.executable, "predict.py"], cwd=tree, env=env, stdin=to_trial[0], stdout=theirs[1])
    os.close(to_trial[0])
    os.close(theirs[1])
    ends = (to_trial[1], theirs[0])
    request = {"artefact": str(artefact), "held_out": splits["held_out"], "settings": settings}
    said, _ = standalone.reply(standalone.hook("score", request | {"to_trial": ends[0], "from_trial": ends[1]}, ends))

    assert predict.wait(60) == 0
    assert -1.0 <= said["metrics"]["core"] <= 1.0
    assert said["metrics"]["items"] == 22 * 3 + hook.WINDOWS


@pytest.mark.slow
@pytest.mark.net
def test_the_recipe_fits_its_budgets_on_the_real_text(tmp_path: Path) -> None:
    """Fetched, trained in 20 CPU seconds, scored on 6,800 items: a language model that is above chance."""
    standalone = module(HERE / "standalone_nanochat.py", "standalone_nanochat")
    splits, _ = standalone.reply(standalone.hook("prepare", {"cache": str(tmp_path)}))
    if "error" in splits:
        pytest.skip(splits["error"])
    found = standalone.run(splits, seed=1, seconds=20.0, settings=[])

    assert found["train_cpu_s"] <= 20.0
    assert found["metrics"]["mini_core"] > 0.15
    assert found["metrics"]["val_bpb"] < 3.0
