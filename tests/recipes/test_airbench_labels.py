"""Every label that an airbench trial can end with, by the shipped hook and study on made-up images."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gitresearch.repo import Repo
from gitresearch.study import Gate
from tests.build import plain_repo
from tests.recipes.airbench import FILES, PREDICT, READY, SPIN, STUDY, TRAIN, made_up, small, with_hook
from tests.recipes.through_the_lab import assessed, strongest

TINY = {"artefact_bytes": 2000}
# 45 of the 50 made-up images are named right; the shipped gate of 8,800 can't be met on them.
EASY = Gate("correct", at_least=40)
JUST = Gate("correct", at_least=46)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "budget", "gates", "status", "told"),
    [
        ({"note.txt": "x"}, {}, (EASY,), "keep", "keep"),
        ({"note.txt": "x"}, {}, (JUST,), "disqualified", "correct is 45, and the study asks for correct ≥ 46"),
        ({"note.txt": "x"}, {}, STUDY.gates, "disqualified", "correct is 45, and the study asks for correct ≥ 8800"),
        ({"train.py": "def f(:\n"}, {}, (), "preflight_crash", "train.py:1:"),
        ({"big.txt": "".join(map(chr, range(33, 3000)))}, TINY, (), "size_blocked", "the code alone takes"),
        ({"train.py": TRAIN.replace('b"w"', "os.urandom(3000)")}, TINY, (), "size_blocked", "over the cap of 2000"),
        ({"train.py": READY + SPIN}, {"train_seconds": 0.3}, (), "train_budget_overrun", "stopped after"),
        ({"predict.py": SPIN}, {"eval_seconds": 0.3}, (), "eval_budget_overrun", "stopped after"),
        ({"train.py": "raise ValueError('the loss is nan')"}, {}, (), "crash", "the loss is nan"),
        ({"predict.py": PREDICT.replace(", 0, 0, 0", ", 0")}, {}, (), "crash", "after 100 of 200 bytes"),
        ({"predict.py": PREDICT.replace("data[i], 0", "data[i], 9")}, {}, (), "crash", "a class outside 0 to 9"),
        ({"predict.py": PREDICT + "sys.stdout.buffer.write(answers)"}, {}, (), "invalid", "more than was asked"),
        ({"train.py": READY}, {}, (), "invalid", "the artefact has 0 files"),
        ({"train.py": "pass"}, {}, (), "crash", "was never given its data"),
        ({"train.py": TRAIN.replace("open(", "os.symlink('/etc/passwd',").partition(").write")[0] + ")"}, {}, (),
         "invalid", "is no ordinary file"),
        ({"train.py": "x = bytearray(1 << 30)\n" + SPIN}, {"memory_mb": 300}, (), "resource_limit", "peak memory"),
    ],
    ids=["good", "gate", "shipped gate", "syntax", "code", "weights", "train", "eval", "crash", "narrow", "class",
         "more", "nothing", "never ready", "link", "memory"],
)  # fmt: skip
def test_every_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Mapping[str, str], budget: Mapping[str, object],
    gates: tuple[Gate, ...], status: str, told: str,
) -> None:  # fmt: skip
    """What a trial does, or the least that a limit leaves it, ends it with the label and the words that say so."""
    monkeypatch.delenv("GITRESEARCH_DATA_AIRBENCH", raising=False)
    study = replace(small(made_up(tmp_path / "fashion"), **budget), gates=gates)
    repo = Repo.open(plain_repo(tmp_path / "repo", with_hook(FILES)), durable=False)
    edits = {f"recipes/airbench/{name}": text.encode() for name, text in files.items()}
    found = assessed(repo, study, strongest(), tmp_path / "cache", edits, best=100.0)

    assert found.summary.status == status
    assert told in "\n".join([*(found.failure.lines if found.failure else ()), found.summary.reason, status])
    assert (found.summary.score is None) == (found.failure is not None)
