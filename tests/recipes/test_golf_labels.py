"""Every label that a golf trial can end with, by the shipped recipe, hook and study on a made-up text."""

import hashlib
import importlib.util
import io
import json
import random
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from gitresearch import share
from gitresearch.outcome import Outcome
from gitresearch.repo import Repo
from gitresearch.sandbox import Sandbox
from gitresearch.study import Budget, Gate, Study, load
from tests.build import plain_repo
from tests.recipes.through_the_lab import assessed

pytest.importorskip("torch", reason="torch is not installed: pip install 'gitresearch[recipes]'")
ROOT = "recipes/parameter_golf"
HOOK = "evaluator_hooks/parameter_golf/hook.py"
SHORT = (f"{ROOT}/train.py", b'"100..1500 step 50"] = 400', b'"100..1500 step 50"] = 20')


def made_up(cache: Path, hook: str) -> str:
    """Put an archive of random words where the hook looks for its own; the hook that takes it for it."""
    spec = importlib.util.spec_from_file_location("golf_hook", share.root() / HOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    words, chance = ["and", "the", "lord", "said", "unto", "him", "of", "Israel"], random.Random(1)
    verses = [
        {"book": "b", "chapter": chapter, "verse": verse, "text": " ".join(chance.choices(words, k=20))}
        for chapter in range(100)
        for verse in range(20)
    ]
    data = "\n".join(map(json.dumps, verses)).encode()
    cache.mkdir(parents=True)
    archive = cache / f"{module.PACKAGE}-{module.VERSION}.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        facts = tarfile.TarInfo(module.MEMBER)
        facts.size = len(data)
        packed.addfile(facts, io.BytesIO(data))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return hook.replace(module.SHA256, hashlib.sha256(data).hexdigest()).replace(module.ARCHIVE_SHA256, digest)


def of_trial(top: Path, study: Study, edits: dict[str, tuple[bytes, bytes]]) -> Outcome:
    """The outcome of one trial that makes these replacements in files of the recipe."""
    files = share.files("golf")
    files[HOOK] = made_up(top / "cache/data", files[HOOK].decode()).encode()
    path, old, new = SHORT
    assert old in files[path]
    files[path] = files[path].replace(old, new)
    changed = {f"{ROOT}/{name}": files[f"{ROOT}/{name}"].replace(*edit) for name, edit in edits.items()}
    assert all(data != files[path] for path, data in changed.items())
    repo = Repo.open(plain_repo(top / "s", files), durable=False)
    return assessed(repo, study, Sandbox("none", ""), top / "cache", changed, best=0.1)


GOLF = load(share.files("golf")["study.toml"].decode())
PLAIN = {"schedule.py": (b"= 0.05", b"= 0.1")}
WIDE = {
    "model.py": (b"WIDTH: Annotated[int, \"32..160 step 16\"] = 64", b"WIDTH = 160"),
    "quantize.py": (b"BITS: Literal[4, 5, 6, 8, 16] = 8", b"BITS: Literal[4, 5, 6, 8, 16] = 16"),
}  # fmt: skip
# Other code than the shipped one, whose size is not projected.
LOOSE = {"model.py": WIDE["model.py"], "quantize.py": (b"zlib.compress(data, 9)", b"zlib.compress(data, 0)")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "edits", "status", "label"),
    [
        ({}, PLAIN, "discard", ""),
        ({}, WIDE, "size_blocked", "projected_too_large"),
        ({}, LOOSE, "size_blocked", "artefact_too_large"),
        ({"artefact_bytes": 1000}, PLAIN, "size_blocked", "code_too_large"),
        ({"train_seconds": 0.5}, PLAIN, "train_budget_overrun", "cpu_budget"),
        ({"eval_seconds": 0.5}, PLAIN, "eval_budget_overrun", "cpu_budget"),
        ({"memory_mb": 100}, PLAIN, "resource_limit", "memory"),
        ({}, {"model.py": (b"] = 64", b"] = 33")}, "preflight_crash", "shape"),
        ({}, {"train.py": (b"def train() -> None:\n", b"def train() -> None:\n    [][1]\n")}, "crash", "IndexError"),
        ({}, {"model.py": (b"class GPT", b"class (GPT")}, "preflight_crash", "SyntaxError"),
        ({}, {"train.py": (b'{"merges": merges}', b'{"merges": 1}')}, "invalid", "prediction"),
        ({}, {"train.py": (b"if team.rank == 0", b"if team.rank == 9")}, "invalid", "artefact"),
        ({}, {"evaluate.py": (b".float() / TEMPERATURE", b".float() * torch.nan")}, "crash", "prediction"),
    ],
)
def test_every_label(
    tmp_path: Path, budget: dict[str, float], edits: dict[str, tuple[bytes, bytes]], status: str, label: str
) -> None:
    """What a trial does, or the least that a limit leaves it, ends it with the label that says so."""
    limits: Budget = replace(GOLF.budget, **budget)
    found = of_trial(tmp_path, replace(GOLF, budget=limits), edits)

    assert found.summary.status == status
    assert (found.failure.label if found.failure else "") == label


@pytest.mark.slow
def test_a_gate_that_is_missed(tmp_path: Path) -> None:
    """A study of the same recipe with a gate: a trial that misses it counts for nothing, however good it is."""
    found = of_trial(tmp_path, replace(GOLF, gates=(Gate("tokens", at_most=10),)), PLAIN)

    assert found.summary.status == "disqualified"
