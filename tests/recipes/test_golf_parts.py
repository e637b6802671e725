"""The golf recipe's parts at tiny sizes, each against what it is said to be."""

import importlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gitresearch[recipes]'")
torch.set_num_threads(1)
RECIPE = Path(__file__).resolve().parents[2] / "recipes/parameter_golf"
NAMES = [path.stem for path in RECIPE.glob("*.py")]
Parts = Callable[..., ModuleType]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    """The recipe's files as fresh modules, with constants set: `parts("model", NORM="rms")`."""

    def forget() -> None:
        for name in NAMES:
            sys.modules.pop(name, None)

    def load(name: str, **constants: object) -> ModuleType:
        made = importlib.import_module(name)
        for key, value in constants.items():
            assert hasattr(made, key)
            monkeypatch.setattr(made, key, value)
        return made

    monkeypatch.syspath_prepend(str(RECIPE))
    forget()
    yield load
    forget()


def tiny(parts: Parts, vocab: int = 20) -> torch.nn.Module:
    """A network with weights large enough to have opinions."""
    torch.manual_seed(0)
    net = parts("model", WIDTH=16, HEADS=4, DEPTH=2).GPT(vocab)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return net


# Network, loss, optimiser


def test_grouped_heads_are_attention_with_keys_written_out(parts: Parts) -> None:
    """Each pair of queries sees the keys and values of its group, causally, by the formula."""
    model = parts("model", WIDTH=16, HEADS=4, KV_HEADS=2)
    torch.manual_seed(1)
    layer, x = model.Attention(), torch.randn(3, 7, 16)
    q, k, v = layer.qkv(x).split([16, 8, 8], dim=-1)
    wanted = torch.zeros(3, 7, 16)
    for head in range(4):
        group = slice(4 * (head // 2), 4 * (head // 2) + 4)
        scores = q[..., 4 * head : 4 * head + 4] @ k[..., group].transpose(1, 2) / 2.0
        scores = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), -torch.inf)
        wanted[..., 4 * head : 4 * head + 4] = scores.softmax(dim=-1) @ v[..., group]

    torch.testing.assert_close(layer(x, 0, None)[0], layer.out(wanted))


def test_rotary_positions_make_a_match_of_the_distance_alone(parts: Parts) -> None:
    """q at 7 and k at 3 match as q at 104 and k at 100, whatever stands there, and their lengths stay."""
    rotate = parts("model").rotate
    q, k = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0))

    def match(a: int, b: int) -> float:
        assert float(rotate(q, a).norm()) == pytest.approx(float(q.norm()), rel=1e-5)
        return float((rotate(q, a) * rotate(k, b)).sum())

    assert match(7, 3) == pytest.approx(match(104, 100), abs=1e-4)
    assert match(7, 3) != pytest.approx(match(17, 3), abs=1e-2)


def test_going_through_the_blocks_again_takes_no_weights(parts: Parts) -> None:
    """Two loops over two blocks are four blocks that share their weights."""
    net = tiny(parts)
    tokens = torch.randint(20, (2, 6))
    parts("model", LOOPS=2)
    twice, _ = net(tokens)
    looped = sum(p.numel() for p in net.parameters())
    parts("model", LOOPS=1, DEPTH=4)
    net.blocks = torch.nn.ModuleList([*net.blocks, *net.blocks])

    assert looped == sum(p.numel() for p in net.parameters())
    torch.testing.assert_close(twice, net(tokens)[0])


def test_the_plain_loss_is_the_score(parts: Parts) -> None:
    """With nothing switched on it is the mean of -log p; each switch changes it the way it says."""
    logits, targets = torch.randn(2, 5, 9), torch.randint(9, (2, 5))
    plain, told = parts("loss").loss(logits, targets)
    nats = -logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]

    torch.testing.assert_close(plain, nats.mean())
    assert told == plain
    smooth, told = parts("loss", LABEL_SMOOTHING=0.1).loss(logits, targets)
    torch.testing.assert_close(
        smooth, torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=0.1)
    )
    torch.testing.assert_close(told, nats.mean())
    focal, told = parts("loss", LABEL_SMOOTHING=0.0, FOCAL=1.0).loss(logits, targets)
    torch.testing.assert_close(focal, (nats * (1 - (-nats).exp())).mean())
    early, told = parts("loss", FOCAL=0.0, EARLY=0.5, RAMP=2).loss(logits, targets)
    torch.testing.assert_close(early, (nats * torch.tensor([0.5, 0.75, 1, 1, 1])).mean())
    squares = parts("loss", EARLY=1.0, Z_LOSS=0.5).loss(logits, targets)[0] - plain
    torch.testing.assert_close(squares, 0.5 * logits.logsumexp(-1).square().mean())
    torch.testing.assert_close(told, nats.mean())


@pytest.mark.slow
def test_each_weight_is_in_one_group(parts: Parts) -> None:
    """Every optimiser moves every weight once; matrices of blocks decay, vectors and embeddings don't."""
    net = tiny(parts)
    for kind in ("adamw", "muon", "lion", "sgd"):
        optimizers = parts("optimizer", OPTIMIZER=kind).make_optimizers(net)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        held = [p for group in groups for p in group["params"]]
        decays = {id(p) for group in groups if group.get("weight_decay", 1.0) > 0 for p in group["params"]}

        assert sorted(map(id, held)) == sorted(map(id, net.parameters()))
        assert decays == {id(p) for name, p in net.named_parameters() if p.dim() == 2 and "blocks" in name}


# Regularisation and quantisation


def test_averages_of_weights(parts: Parts) -> None:
    """The tail's mean is a mean, a moving average moves, and none is the last weights."""
    net = torch.nn.Linear(1, 1, bias=False)
    for kind, wanted in (("none", 4.0), ("tail", 3.5), ("ema", 0.5 * (0.5 * (0.5 * (1 + 2) + 3) + 4))):
        average = parts("regularize", AVERAGE=kind, TAIL=0.5, DECAY=0.5).Average(net)
        for step in range(1, 5):
            torch.nn.init.constant_(net.weight, float(step))
            average.add((step - 1) / 4)

        assert average.weights()["weight"].item() == pytest.approx(wanted)


def test_training_on_rounded_weights_leaves_the_exact_ones(parts: Parts) -> None:
    """Inside, matrices are what the artefact will hold; afterwards every bit is back."""
    quantize, net = parts("quantize", BITS=4, ROUND_FROM=0.5), tiny(parts)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    stored = quantize.unpack(quantize.pack(before))
    with quantize.rounded(net, 0.4):
        assert torch.equal(net.blocks[0].mlp.up.weight, before["blocks.0.mlp.up.weight"])
    with quantize.rounded(net, 0.5):
        torch.testing.assert_close(net.blocks[0].mlp.up.weight.data, stored["blocks.0.mlp.up.weight"])

    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_sparse_weights_take_fewer_bytes(parts: Parts) -> None:
    """Half of a matrix set to 0 is half of a matrix less to store, where the compressor sees whole bytes."""
    weight = {"blocks.0.w": torch.randn(64, 64, generator=torch.Generator().manual_seed(1))}
    sizes = [len(parts("quantize", SPARSITY=share, LAYOUT="bytes").pack(weight)) for share in (0.0, 0.5)]
    back = parts("quantize").unpack(parts("quantize").pack(weight))["blocks.0.w"]

    assert sizes[1] < 0.8 * sizes[0]
    assert 0.45 < (back == 0).float().mean() < 0.6


# Curriculum


def test_windows_of_an_epoch_are_each_there_once(parts: Parts) -> None:
    """Between two refills no token is read twice, and inputs are the targets moved by one behind the start mark."""
    supply = parts("data", ORDER="epoch", BATCH=4, SEQUENCE=8).Supply(torch.arange(400), 999, seed=1)
    drawn = [supply.draw(0.0) for _ in range(10)]
    targets = torch.cat([targets for _, targets in drawn])

    assert targets.unique().numel() == targets.numel()
    assert all((inputs[:, 0] == 999).all() and torch.equal(inputs[:, 1:], t[:, :-1]) for inputs, t in drawn)


def test_short_windows_first_are_as_many_tokens(parts: Parts) -> None:
    """A step is a step at every length."""
    supply = parts("data", SHORT_BY=4, SHORT_UNTIL=0.3, BATCH=4, SEQUENCE=64).Supply(torch.arange(900), 999, seed=1)

    assert supply.draw(0.29)[1].shape == (16, 16)
    assert supply.draw(0.3)[1].shape == (4, 64)


def test_an_epoch_is_cut_again_when_windows_grow(parts: Parts) -> None:
    """None begins where only a short one ended within the text, and no token is read twice."""
    settings = {"ORDER": "epoch", "SHORT_BY": 4, "SHORT_UNTIL": 0.5, "BATCH": 1, "SEQUENCE": 64}
    for seed in range(20):
        supply = parts("data", **settings).Supply(torch.arange(900), 999, seed)
        supply.draw(0.0)
        targets = torch.cat([supply.draw(0.5)[1] for _ in range(13)])  # a whole epoch
        assert targets.unique().numel() == targets.numel()


def test_easy_windows_come_first(parts: Parts) -> None:
    """At the start windows of frequent tokens are drawn, later rare ones too."""
    rare = torch.arange(1000) % 50 + 1
    tokens = torch.cat([torch.zeros(3000, dtype=torch.long), rare])
    supply = parts("data", EASY_UNTIL=0.5, BATCH=64, SEQUENCE=8, POOL=2000).Supply(tokens, 999, seed=1)

    assert (supply.draw(0.0)[1] == 0).all()
    assert (supply.draw(0.49)[1] > 0).any()


def shard(path: Path, tokens: np.ndarray, version: int = 1) -> Path:
    """A token file of the public format."""
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, version, len(tokens)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.tobytes() + tokens.astype("<u2").tobytes())
    return path


def test_windows_of_token_files_stay_in_their_file(parts: Parts, tmp_path: Path) -> None:
    """Files are one row of tokens; near a file's end a window begins earlier."""
    shard(tmp_path / "a_1.bin", np.arange(10))
    shard(tmp_path / "a_2.bin", np.arange(100, 110))
    found = parts("shards").Shards(tmp_path)

    assert len(found) == 20
    assert found.windows(torch.tensor([2, 8, 10, 19]), 3).tolist() == [
        [2, 3, 4], [7, 8, 9], [100, 101, 102], [107, 108, 109],
    ]  # fmt: skip


# Test-time training


@pytest.mark.parametrize("which", ["vectors", "embeddings", "last", "all"])
def test_what_goes_on_learning(parts: Parts, which: str) -> None:
    """Just the weights that are named move, and none at a rate of 0."""
    net = tiny(parts)
    assert parts("ttt").chosen(net) == []
    before = {name: p.clone() for name, p in net.named_parameters()}
    parts("ttt", LEARN=which, RATE=0.1).Learner(net).learn(torch.randint(20, (4, 9)), 8)
    moved = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    wanted = {
        "vectors": {name for name, p in net.named_parameters() if p.dim() == 1},
        "embeddings": {"embed.weight"},
        "last": {name for name in before if name.startswith("blocks.1.")},
        "all": set(before),
    }[which]

    assert moved == wanted


def test_learning_while_predicting_pays_and_looks_at_nothing_ahead(parts: Parts) -> None:
    """On a text that repeats, a predictor that learns does better; what comes later changes no earlier prediction."""
    parts("ttt", LEARN="all", RATE=0.3, PASSES=2)
    parts("evaluate", CONTEXT=16)
    text = torch.arange(120) % 7
    texts = torch.stack([text, text, text])
    other = texts.clone()
    other[:, 60:] = 11

    def predictions(texts: torch.Tensor) -> torch.Tensor:
        predictor, told = parts("evaluate").Predictor(tiny(parts), len(texts)), []
        for t in range(texts.shape[1]):
            told.append(predictor.logits())
            predictor.observe(texts[:, t])
        return torch.stack(told, dim=1)

    learnt, changed = predictions(texts), predictions(other)
    torch.testing.assert_close(learnt[:, :61], changed[:, :61])
    nats = torch.nn.functional.cross_entropy(learnt.flatten(0, 1), texts.flatten(), reduction="none").view_as(texts)
    assert nats[:, 80:].mean() < 0.7 * nats[:, :20].mean()


# Several processes

TEAM = """
import os, sys, torch
from parallel import join
team = join()
torch.manual_seed(0)
net = torch.nn.Linear(4, 2)
x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
mine = x.chunk(team.world)[team.rank]
net(mine).square().mean().backward()
net.bias.grad = None if team.rank == 1 else net.bias.grad
team.average_gradients(net)
assert team.seconds() > 0
from model import GPT
from train import learn
torch.manual_seed(0)
model = GPT(40)
tokens = torch.randint(40, (8, 17), generator=torch.Generator().manual_seed(1)).chunk(team.world)[team.rank]
learn(model, tokens[:, :-1], tokens[:, 1:], team)
slopes = {name: weight.grad.clone() for name, weight in model.named_parameters()}
if team.rank == 0:
    torch.save({"weight": net.weight.grad, "bias": net.bias.grad, "slopes": slopes}, sys.argv[1])
team.leave()
"""


@pytest.mark.slow
def test_two_processes_make_the_step_of_one(tmp_path: Path) -> None:
    """Over gloo, gradients averaged over two halves of a batch are the whole batch's: of a layer, one of whose
    processes has none for its bias, and of every weight of the recipe's network by the recipe's own step."""
    (tmp_path / "team.py").write_text(TEAM)
    env = {**os.environ, "PYTHONPATH": str(RECIPE), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    alone = [sys.executable, "team.py", "one.pt"]
    subprocess.run(alone, cwd=tmp_path, env=env, check=True)
    team = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "team.py", "two.pt"]
    subprocess.run([sys.executable, *team], cwd=tmp_path, env=env, check=True, capture_output=True)
    one, two = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")

    torch.testing.assert_close(one["weight"], two["weight"])
    assert two["bias"] is not None
    assert len(one["slopes"]) >= 20
    assert all(slope.abs().sum() > 0 for slope in one["slopes"].values())
    torch.testing.assert_close(one["slopes"], two["slopes"], atol=1e-6, rtol=1e-4)


FAILS = """
import os, parallel
def train():
    team = parallel.join()
    if team.rank == 1:
        raise ArithmeticError("a rank went wrong")
    import torch
    net = torch.nn.Linear(1, 1)
    net(torch.ones(1, 1)).backward()
    team.average_gradients(net)
if __name__ == "__main__":
    parallel.PROCESSES = 2
    parallel.together(train)
"""


@pytest.mark.slow
def test_a_process_that_fails_ends_all_of_them(tmp_path: Path) -> None:
    """None waits for ever on one that is gone, and the last words say what went wrong."""
    (tmp_path / "fails.py").write_text(FAILS)
    env = {**os.environ, "PYTHONPATH": str(RECIPE), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    run = [sys.executable, "fails.py"]
    done = subprocess.run(run, cwd=tmp_path, env=env, check=False, capture_output=True, text=True, timeout=100)

    assert done.returncode == 1
    assert "ArithmeticError: a rank went wrong" in done.stderr[-500:]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_it_trains_on_token_files_on_one_process_and_on_two(tmp_path: Path, processes: int) -> None:
    """The full scale's path through train.py and predict.py, at a tiny size on the CPU. One process says how far it is,
    on the descriptor that the first was handed."""
    tree, small = tmp_path / "tree", [("TEXT = True", "TEXT = False"), ("= 512", "= 300")]
    small += [('step 50"] = 400', 'step 50"] = 30'), ("PROCESSES = 1", f"PROCESSES = {processes}")]
    tree.mkdir()
    for path in RECIPE.glob("*.py"):
        text = path.read_text("utf-8")
        for old, new in small:
            text = text.replace(old, new)
        (tree / path.name).write_text(text, "utf-8")
    shard(tmp_path / "data" / "train_1.bin", np.arange(5000) % 300)
    (tmp_path / "artefact").mkdir()
    env = {**os.environ, "GITRESEARCH_DATA": str(tmp_path / "data"), "GITRESEARCH_ARTEFACT": str(tmp_path / "artefact")}
    env |= {"GITRESEARCH_SEED": "1", "GITRESEARCH_TRAIN_SECONDS": "60", "OMP_NUM_THREADS": "1"}
    run = {"cwd": tree, "capture_output": True}
    ours, theirs = socket.socketpair()
    told = env | {"GITRESEARCH_PROGRESS": str(theirs.fileno())}
    done = subprocess.run(
        [sys.executable, "train.py"], text=True, env=told, pass_fds=[theirs.fileno()], check=True, **run
    )
    theirs.close()
    assert f"seen by each of {processes}" in done.stdout
    assert [line.split()[:2] for line in ours.makefile()] == [[step, "30"] for step in ("0", "10", "20", "30")]
    ours.close()

    asked = json.dumps({"streams": 2, "steps": 3, "vocab": 300}).encode() + b"\n" + np.arange(4, dtype="<i4").tobytes()
    found = subprocess.run([sys.executable, "predict.py"], input=asked, env=env, check=True, **run)
    assert np.isfinite(np.frombuffer(found.stdout, dtype="<f4")).all()
    assert len(found.stdout) == 4 * 2 * 3 * 300


@pytest.mark.parametrize("launched", [False, True])
def test_progress_goes_to_whoever_handed_a_descriptor(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launched: bool
) -> None:
    """A program that torchrun started, one process though it be, has no such descriptor and writes nothing."""
    with (tmp_path / "told").open("wb") as told:
        monkeypatch.setenv("GITRESEARCH_PROGRESS", str(told.fileno()))
        if launched:
            monkeypatch.setenv("RANK", "0")
        parts("parallel").together(lambda: parts("train").report(1, 2))
    assert (tmp_path / "told").read_bytes() == (b"" if launched else b"1 2\n")


def test_learning_in_parts_is_learning_at_once(parts: Parts) -> None:
    """More streams than fit a device give the gradients that all of them at once would."""
    model = parts("model")
    ttt = parts("ttt", RATE=0.1)
    history, found = torch.randint(20, (5, 9), generator=torch.Generator().manual_seed(2)), []
    for micro in (96, 2):
        torch.manual_seed(1)
        net = model.GPT(20)
        parts("ttt", MICRO=micro)
        ttt.Learner(net).learn(history, 8)
        found.append(torch.cat([weight.flatten() for weight in net.parameters()]))
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)
