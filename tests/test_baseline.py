"""The baseline verb: seeds are added and told, none is made where there are enough."""

import json
import shutil
from pathlib import Path

import pytest

from gitresearch.cli.main import run
from gitresearch.outcome import mean, stdev
from gitresearch.repo import Repo
from tests.build import plain_repo

TRAIN = """\
import os, random
print(f"loss: {2 + random.Random(int(os.environ['GITRESEARCH_SEED'])).gauss(0, 0.1):.6f}")
"""
TOML = """\
name = "demo"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[seeds]
baseline = 2
head = 1
confirm = 4
[evaluator]
pattern = '''loss: (\\S+)'''
[[specialists]]
name = "one"
surface = ["train.py"]
"""


def test_seeds_are_added_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The study's number first, then as many as are asked for; what stands already is told without a run."""
    top = plain_repo(tmp_path / "s", {"train.py": TRAIN.encode(), "study.toml": TOML.encode()})
    allowed = [] if shutil.which("bwrap") else ["--allow-unsandboxed"]
    assert run(["-C", str(top), "baseline", *allowed]) == 0
    told = capsys.readouterr().out
    assert "over 2 seeds of the unchanged recipe" in told
    assert "a confirmation with 4 seeds sees" in told
    assert "σ" in told

    assert run(["-C", str(top), "baseline", "--seeds", "4", "--json", *allowed]) == 0
    facts = json.loads(capsys.readouterr().out)
    repo = Repo.open(top)
    outcome = repo.outcome(repo.trials("demo")[0].trial.oid)
    assert outcome is not None
    found = [one.metrics["loss"] for one in outcome.runs]
    assert (facts["n"], facts["mean"], facts["sd"]) == (4, mean(found), stdev(found))
    assert facts["sd_interval"][0] < facts["sd"] < facts["sd_interval"][1]
    assert [row["seeds"] for row in facts["sees"]] == [2, 3, 4, 5, 8, 12, 20]

    assert run(["-C", str(top), "baseline", "--seeds", "3"]) == 0
    assert "over 4 seeds" in capsys.readouterr().out
    assert repo.outcome(repo.trials("demo")[0].trial.oid) == outcome
