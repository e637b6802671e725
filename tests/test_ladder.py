"""The ladder from a recipe's side: an honest one comes to the same result on every rung, and has what it needs."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitresearch.evaluate import Evaluator
from gitresearch.repo import Repo
from gitresearch.sandbox import selftest
from gitresearch.study import load
from tests.build import STUDY, add_trial, plain_repo
from tests.test_sandbox import LEVELS, make_box

# Sums of seeded floats: equal bit for bit only where the same program ran on the same data.
PLAIN = """
import os, random, sys
rng, w = random.Random(int(os.environ["GITRESEARCH_SEED"])), 0.0
for _ in range(20_000):
    x = rng.gauss(0, 1)
    w -= 0.01 * x * (w * x - 3 * x + rng.gauss(0, 0.1))
"""
TORCH = """
import os, torch
from torch.utils.data import DataLoader, TensorDataset
if __name__ == "__main__":
    torch.manual_seed(int(os.environ["GITRESEARCH_SEED"]))
    net, x = torch.nn.Linear(8, 1), torch.randn(256, 8)
    step = torch.optim.SGD(net.parameters(), lr=0.05)
    for batch, in DataLoader(TensorDataset(x), 32, num_workers=2):
        loss = (net(batch) - batch.sum(1, keepdim=True)).pow(2).mean()
        step.zero_grad(); loss.backward(); step.step()
    w = loss.item()
"""
KEEP = 'open(os.path.join(os.environ["GITRESEARCH_ARTEFACT"], "model"), "w").write(repr(w))\n'
PREDICT = 'import os\nprint(open(os.path.join(os.environ["GITRESEARCH_ARTEFACT"], "model")).read(), flush=True)\n'
HOOK = """
import json, sys
request = json.load(sys.stdin)
told = {"prepare": {}, "preflight": {"ok": True}, "measure": {"artefact_bytes": 1}}.get(sys.argv[1])
if told is None:
    told = {"metrics": {"loss": float(open(request["from_trial"]).readline())}}
print(json.dumps(told))
"""
TOML = """
name = "demo"
[recipe]
train = "python train.py"
predict = "python predict.py"
[objective]
metric = "loss"
[evaluator]
hook = "hook.py"
[[specialists]]
name = "one"
surface = ["**"]
"""


@pytest.fixture
def evaluator(tmp_path: Path) -> Iterator[Evaluator]:
    files = {"train.py": b"pass\n", "predict.py": PREDICT.encode(), "hook.py": HOOK.encode()}
    repo = Repo.open(plain_repo(tmp_path / "repo", files), durable=False)
    repo.pin_study(STUDY, repo.head_commit())
    made = Evaluator(repo, load(TOML), repo.head_commit(), make_box("none"), tmp_path / "cache")
    made.prepare()
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [PLAIN, TORCH], ids=["plain", "torch"])
def test_an_honest_recipe_scores_the_same_everywhere(evaluator: Evaluator, recipe: str) -> None:
    """One trial, one seed: training and predicting give the same number on each rung, and the outcome names it."""
    if "torch" in recipe and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    code = (recipe + ("    " if "torch" in recipe else "") + KEEP).encode()
    assert isinstance(evaluator.source, Repo)
    trial = add_trial(evaluator.source, edits={"train.py": code})
    scores = {}
    for level in LEVELS:
        evaluator.box = make_box(level)
        result = evaluator.run(trial, 7, "screen")
        assert (result.run.status, result.failure) == ("ok", None)
        assert result.environment["sandbox"] == level
        scores[level] = result.run.metrics["loss"]

    assert len(set(scores.values())) == 1, scores


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_recipes_have_what_they_need(level: str) -> None:
    """A step of torch, workers of a DataLoader and torch.compile work inside, and accelerators are all seen."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    assert set(selftest.works(make_box(level), sys.executable).values()) == {""}
