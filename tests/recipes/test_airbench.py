"""The airbench recipe: every lever's code does what its name says, on made-up images of 12 × 12 pixels."""

import ast
import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import tomli

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gitresearch[recipes]'")
torch.set_num_threads(1)
import numpy as np  # noqa: E402
import torch.nn.functional as F  # noqa: E402, N812

TOP = Path(__file__).resolve().parents[2]
RECIPE = TOP / "recipes/airbench"
FILES = ("speed", "regularize", "loss", "augment", "optimizer", "model", "train")  # each before those that import it
FEW = {"WIDTH1": 8, "WIDTH2": 8, "WIDTH3": 8, "BATCH": 32, "RESOLUTION": 12, "EARLY_RESOLUTION": 12}
Load = Callable[..., dict[str, ModuleType]]


def load(**constants: object) -> dict[str, ModuleType]:
    """The recipe's files as fresh modules, small, with constants set wherever they stand or are imported."""
    for name in FILES:
        sys.modules.pop(name, None)
    wanted, parts = FEW | constants, {}
    for name in FILES:
        parts[name] = importlib.import_module(name)
        for key in wanted.keys() & vars(parts[name]).keys():
            setattr(parts[name], key, wanted[key])
    assert all(any(hasattr(part, key) for part in parts.values()) for key in wanted)
    return parts


@pytest.fixture
def recipe() -> Iterator[Load]:
    """Loads the recipe's files, and forgets them afterwards."""
    sys.path.insert(0, str(RECIPE))
    yield load
    sys.path.remove(str(RECIPE))
    for name in FILES:
        sys.modules.pop(name, None)


def some(count: int = 96, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, channels, 12, 12) of bytes in which a bright row says the class, and the labels."""
    labels = torch.arange(count) % 10
    images = torch.randint(0, 60, (count, channels, 12, 12), generator=torch.Generator().manual_seed(1))
    images[torch.arange(count), :, labels] = 255
    return images.to(torch.uint8), labels


def fitted(parts: dict[str, ModuleType], steps: int = 3, seed: int = 1) -> torch.nn.Module:
    """A network after so many steps, ready to predict."""
    torch.manual_seed(seed)
    images, labels = some()
    model = parts["model"].Net()
    model.see(images)
    parts["train"].fit(model, model, model.normalise(images), labels, steps, seed)
    return model.eval()


CHOICES = {
    "STAGES": [2],
    "CONVS": [2, 3],
    "STRIDE": [2],
    "WHITEN": [2, 3],
    "POOL": ["max", "avg", "stride"],
    "HEAD": ["max", "avg", "flat"],
    "NORM": ["none"],
    "NORM_SCALE": [False],
    "ACTIVATION": ["gelu", "silu", "leaky"],
    "DIRAC": [True],
    "CHANNELS_LAST": [True],
    "PRECISION": ["bfloat16"],
    "OPTIMIZER": ["adamw", "muon", "lion"],
    "LEAN": [True],
    "FLIP": ["random", "alternating"],
    "SHIFT": [2],
    "CUTOUT": [4],
    "TTA": ["flip", "crops"],
    "EARLY_SHARE": [0.5],
    "LOSS": ["squared", "focal"],
    "SMOOTHING": [0.2],
    "SKIP_EASY": [0.5],
    "DROPOUT": [0.5],
    "AVERAGE": ["ema", "lookahead"],
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in CHOICES.items() for v in values])
def test_every_choice_trains_and_predicts(recipe: Load, name: str, value: object) -> None:
    """A few steps move every weight that learns, and the logits are finite; the images are read by their own size."""
    more: dict[str, object] = {"AVERAGE_EVERY": 1, "EARLY_RESOLUTION": 10}
    if name == "CONVS":
        more["RESIDUAL"] = True
    parts = recipe(**{name: value}, **more)
    torch.manual_seed(1)
    before = parts["model"].Net().state_dict()
    model = fitted(parts)
    logits = model(model.normalise(some()[0]))

    assert logits.shape == (96, 10)
    assert torch.isfinite(logits).all()
    assert all(not torch.equal(p, before[key]) for key, p in model.named_parameters() if p.requires_grad)
    assert parts["augment"].predict(model, model.normalise(some()[0])).shape == (96,)


@pytest.mark.slow
def test_the_recipe_learns(recipe: Load) -> None:
    """As it stands, sixty steps find the bright row."""
    model = fitted(recipe(), steps=60)
    images, labels = some()

    assert (model(model.normalise(images)).argmax(1) == labels).float().mean() > 0.9


@pytest.mark.slow
def test_one_seed_makes_one_network(recipe: Load) -> None:
    """Two runs of a seed agree in every bit, whatever is drawn; another seed makes another network."""
    parts = recipe(FLIP="random", SHIFT=2, CUTOUT=4, DROPOUT=0.2, SKIP_EASY=0.3)
    first, again, other = (fitted(parts, steps=8, seed=seed).state_dict() for seed in (1, 1, 2))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("kernel", [2, 3])
def test_whitened_patches_vary_alike_in_every_direction(recipe: Load, kernel: int) -> None:
    """The filters turn the patches they were made of into ones whose covariance is the identity, and come in pairs."""
    smooth = F.avg_pool2d(torch.randn(200, 2, 14, 14, generator=torch.Generator().manual_seed(1)), 3, 1)
    filters = recipe()["model"].patch_filters(10 * smooth, kernel)
    half = len(filters) // 2
    seen = F.conv2d(10 * smooth, filters[:half]).transpose(0, 1).flatten(1)

    torch.testing.assert_close(seen @ seen.T / seen.shape[1], torch.eye(half), atol=2e-2, rtol=0)
    assert torch.equal(filters[half:], -filters[:half])


def test_a_dirac_convolution_hands_its_input_on(recipe: Load) -> None:
    """The first filters give the image back as it was."""
    x = torch.randn(2, 3, 6, 6)

    assert torch.equal(recipe(DIRAC=True)["model"].convolution(3, 5)(x)[:, :3], x)


def test_shifting_moves_each_image_by_its_own(recipe: Load) -> None:
    """Reach is in place; one more moves the window down or right by a pixel."""
    shift = recipe()["augment"].shift
    images = torch.arange(2 * 36).view(2, 1, 6, 6).float()
    moved = shift(images, torch.tensor([2, 3]), torch.tensor([2, 1]), 2)

    assert torch.equal(moved[0], images[0])
    assert torch.equal(moved[1, :, :5, 1:], images[1, :, 1:, :5])


def test_cutting_out_blanks_one_square(recipe: Load) -> None:
    """CUTOUT × CUTOUT pixels of every channel, all of them inside."""
    cut = recipe(CUTOUT=4)["augment"].cut_out(torch.ones(50, 2, 12, 12), torch.Generator().manual_seed(1))

    assert (cut == 0).sum((2, 3)).tolist() == [[16, 16]] * 50
    assert len({image.flatten().argmin().item() for image in cut}) > 10


def test_alternating_flips_show_the_other_side_each_epoch(recipe: Load) -> None:
    """What an image shows in one epoch it doesn't show in the next, and comes back in the one after."""
    augment = recipe(FLIP="alternating")["augment"].augment
    images, mirrored = torch.randn(6, 1, 4, 4), torch.tensor([True, False] * 3)
    first, second, third = (augment(images, mirrored, epoch, torch.Generator()) for epoch in range(3))

    assert torch.equal(first, third)
    assert torch.equal(second, first.flip(3))
    assert torch.equal(first[1], images[1])


@pytest.mark.parametrize("tta", ["none", "flip", "crops"])
def test_views_are_weighed_to_one(recipe: Load, tta: str) -> None:
    """A prediction from several views is a mean, over views of the same size."""
    images = torch.randn(3, 1, 12, 12)
    views = recipe(TTA=tta)["augment"].views(images)

    assert sum(weight for weight, _ in views) == pytest.approx(1.0)
    assert {view.shape for _, view in views} == {images.shape}


@pytest.mark.parametrize("shape", ["constant", "linear", "cosine"])
def test_the_rate_begins_rises_and_falls(recipe: Load, shape: str) -> None:
    """From BEGIN to one by the end of the warm-up, then down to FINAL."""
    rate = recipe(SCHEDULE=shape, WARMUP=0.25, BEGIN=0.2, FINAL=0.1)["optimizer"].rate

    assert rate(0.0) == pytest.approx(0.2)
    assert rate(0.25) == pytest.approx(1.0)
    assert rate(1.0) == pytest.approx(1.0 if shape == "constant" else 0.1)
    assert max(rate(i / 100) for i in range(101)) <= 1.0 + 1e-9


def test_decay_does_not_depend_on_the_rate(recipe: Load) -> None:
    """A step takes the same share off the weights at any learning rate, and twice the batch takes twice of it."""

    def taken(**constants: object) -> list[float]:
        parts = recipe(LEAN=True, **constants)
        (sgd,) = parts["optimizer"].make_optimizers(parts["model"].Net())
        return [group["lr"] * group["weight_decay"] for group in sgd.param_groups]

    base = taken(LEARNING_RATE=3.0, BIAS_RATE=1.0)

    assert taken(LEARNING_RATE=12.0, BIAS_RATE=64.0) == pytest.approx(base)
    assert taken(LEARNING_RATE=3.0, BATCH=64) == pytest.approx([2 * share for share in base])


@pytest.mark.slow
def test_our_few_lines_are_sgd(recipe: Load) -> None:
    """With and without torch's own optimiser the weights go the same way."""
    first, second = (fitted(recipe(LEAN=lean, BIAS_RATE=4.0), steps=8).state_dict() for lean in (False, True))

    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=1e-5, rtol=1e-4)


def test_muon_makes_every_direction_move_alike(recipe: Load) -> None:
    """Newton-Schulz brings the singular values of an update near one."""
    update = torch.randn(24, 48, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(recipe()["optimizer"].orthogonalise(update))

    assert values.min() > 0.4
    assert values.max() < 1.4


@pytest.mark.parametrize("kind", ["ema", "lookahead"])
def test_an_average_is_one(recipe: Load, kind: str) -> None:
    """Both keep the slow weights' share of each step, though at first the plain mean holds nothing of the untrained
    weights; lookahead goes back to them, and late steps count less."""
    average = recipe(AVERAGE=kind, AVERAGE_EVERY=2, AVERAGE_DECAY=0.9)["regularize"].Average
    model = torch.nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(0.0)
        slow = average(model)
        model.weight.fill_(1.0)
    slow.update(model, 1, 0.5)
    assert model.weight.item() == 1.0  # only every other step
    slow.update(model, 2, 0.5)
    kept = 0.81 * (0.125 if kind == "lookahead" else 1.0)
    assert model.weight.item() == pytest.approx(1 - kept if kind == "lookahead" else 1.0)
    expected = 1 - kept
    if kind == "ema":
        for step in range(4, 12, 2):  # so long the newest weighs more in a plain mean
            slow.update(model, step, 0.5)
        with torch.no_grad():
            model.weight.fill_(2.0)
        slow.update(model, 12, 0.5)
        expected = 0.81 * 1.0 + 0.19 * 2.0
    slow.finish(model)

    assert model.weight.item() == pytest.approx(expected)


def test_losses_are_what_they_are_called(recipe: Load) -> None:
    """Against formulas written out: smoothed and focal cross-entropy, squared distance to one-hot targets."""
    logits, labels = torch.randn(5, 10), torch.tensor([0, 3, 9, 1, 3])
    p = logits.softmax(1)
    right = p[torch.arange(5), labels]
    plain = recipe(SMOOTHING=0.3)["loss"].losses(logits, labels)
    torch.testing.assert_close(plain, -0.7 * right.log() - 0.03 * p.log().sum(1))
    focal = recipe(LOSS="focal", FOCUS=2.0)["loss"].losses(logits, labels)
    torch.testing.assert_close(focal, -((1 - right) ** 2) * right.log())
    squared = recipe(LOSS="squared")["loss"].losses(logits, labels)
    torch.testing.assert_close(squared, (logits - torch.eye(10)[labels]).square().sum(1))


def test_the_easiest_images_are_left_out(recipe: Load) -> None:
    """Those of the lowest last loss; what was never seen stays."""
    last = torch.tensor([0.1, torch.inf, 0.3, 0.2, 5.0])

    assert set(recipe(SKIP_EASY=0.4)["loss"].still_to_learn(last).tolist()) == {1, 2, 4}
    assert recipe()["loss"].still_to_learn(last).tolist() == [0, 1, 2, 3, 4]
    unseen = torch.full((5,), torch.inf)
    assert sorted(recipe(SKIP_EASY=0.4)["loss"].still_to_learn(unseen).tolist()) == [0, 1, 2, 3, 4]


def test_a_focal_loss_has_a_slope_where_nothing_is_wrong(recipe: Load) -> None:
    """An image whose class is certain, to the last bit, has a gradient that is a number."""
    logits = torch.tensor([[60.0, 0.0]], requires_grad=True)
    recipe(LOSS="focal", FOCUS=0.5)["loss"].losses(logits, torch.tensor([0])).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("pool", ["max", "avg", "stride"])
@pytest.mark.parametrize("size", [10, 14])
def test_small_images_go_through_any_pooling(recipe: Load, pool: str, size: int) -> None:
    """What is down to a pixel is pooled no more; the filters are made for images of the size that will be seen."""
    parts = recipe(POOL=pool, STRIDE=2, STAGES=3, WHITEN=2, RESOLUTION=size)
    model, images = parts["model"].Net(), some()[0]
    model.see(images)
    shown = parts["augment"].resize(model.normalise(images), size)
    assert torch.equal(model.whiten.weight, parts["model"].patch_filters(shown, 2))
    assert model.eval()(shown).shape == (96, 10)


def test_an_epoch_shows_every_image_once(recipe: Load) -> None:
    """Also where the batches don't divide it: what is left over begins the next."""
    supply = recipe(BATCH=3)["train"].batches(torch.zeros(10), torch.Generator().manual_seed(1))
    shown = torch.cat([next(supply)[1] for _ in range(10)])

    assert [sorted(shown[at : at + 10].tolist()) for at in (0, 10, 20)] == [list(range(10))] * 3


@pytest.mark.slow
def test_the_large_size_is_of_the_same_program(recipe: Load) -> None:
    """Every constant of full/constants.toml is there; with its choices a narrow network trains on the CPU."""
    told = tomli.loads((RECIPE / "full/constants.toml").read_text("utf-8"))
    constants: dict[str, object] = {}
    for file, values in told.items():
        source = (RECIPE / file).read_text("utf-8")
        for name, value in values.items():
            assert f"\n{name}" in source
            constants[name] = ast.literal_eval(value if isinstance(value, str) else value["value"])
    small = {"DEVICE": "cpu", "COMPILE": False, "RESOLUTION": 32, "EARLY_RESOLUTION": 32, "BATCH": 32}
    parts = recipe(**constants | small | {"WIDTH1": 8, "WIDTH2": 16, "WIDTH3": 16})
    torch.manual_seed(1)
    model = parts["speed"].place(parts["model"].Net())
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    model.see(images)
    parts["train"].fit(model, model, model.normalise(images), torch.arange(64) % 10, 3, 1)

    assert len([module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]) == 10
    assert torch.isfinite(model.eval()(model.normalise(images))).all()


def test_no_gpu_is_said_and_not_worked_around(recipe: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that asks for a GPU ends where there is none: minutes on a CPU would be a wrong score."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(SystemExit, match="try: gitresearch init"):
        recipe(DEVICE="cuda")["speed"].device()


def test_a_warm_up_learns_nothing(recipe: Load) -> None:
    """Its images are noise, and any rate goes: at a millionfold of the usual one SGD moves no weight."""
    parts = recipe(LEARNING_RATE=6e6, BATCH=32)
    model = parts["model"].Net()
    begin = {name: weight.clone() for name, weight in model.named_parameters()}
    ours, theirs = socket.socketpair()
    seen: list[bool] = []
    parts["train"].Average.finish = lambda _self, model: seen.append(
        all(torch.equal(begin[name], weight) for name, weight in model.named_parameters())
    )
    with ours, theirs:
        ours.send(b"1")
        parts["train"].warm_up(model, model, theirs.fileno())
        assert ours.recv(1) == b"1"
    assert seen == [True]


def compare_compiled() -> None:
    """Gradients of the full scale's kind of network, in its arithmetic, compiled against plain."""
    constants = {"WHITEN": 2, "CONVS": 3, "RESIDUAL": True, "POOL": "max", "HEAD": "max", "ACTIVATION": "gelu"}
    constants |= {"PRECISION": "bfloat16", "CHANNELS_LAST": True, "COMPILE": True, "NORM_SCALE": False}
    parts, found = load(**constants), []
    images, labels = some(32)
    for compiled in (False, True):
        torch.manual_seed(1)
        model = parts["speed"].place(parts["model"].Net())
        model.see(images)
        net = parts["speed"].compiled(model) if compiled else model
        with parts["speed"].arithmetic():
            logits = net(model.normalise(images))
        parts["loss"].losses(logits, labels).mean().backward()
        found.append([weight.grad for weight in model.parameters() if weight.requires_grad])
    for plain, other in zip(*found, strict=True):
        assert other.isfinite().all()
        torch.testing.assert_close(other, plain, atol=0.1 * float(plain.abs().max()), rtol=0.1)


@pytest.mark.slow
def test_compiled_it_learns_as_it_does_plain() -> None:
    """With `amax` for a head the compiled gradients were no numbers: the largest of what was rounded to 16 bits was
    looked for in what was not. In a process of its own, for the compiler minds what else was imported."""
    env = os.environ | {"PYTHONPATH": f"{TOP}:{RECIPE}", "PYTHONDONTWRITEBYTECODE": "1"}
    code = "from tests.recipes.test_airbench import compare_compiled; compare_compiled()"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=300)


@pytest.mark.slow
def test_a_warm_up_leaves_nothing_behind(tmp_path: Path) -> None:
    """The data folder is empty until the program has said that it is ready, and the weights are those of a run that
    never warmed up."""
    images, labels = np.zeros((64, 1, 28, 28), np.uint8), np.arange(64, dtype=np.uint8) % 10
    images[np.arange(64), 0, labels] = 255
    made = []
    for warm in (False, True):
        data, artefact = tmp_path / f"data{warm}", tmp_path / f"artefact{warm}"
        data.mkdir()
        artefact.mkdir()
        env = {"PATH": os.environ["PATH"], "GITRESEARCH_SEED": "3", "GITRESEARCH_DATA": str(data)}
        env |= {"GITRESEARCH_ARTEFACT": str(artefact), "PYTHONDONTWRITEBYTECODE": "1"}
        ours, theirs = socket.socketpair()
        env |= {"GITRESEARCH_READY": str(theirs.fileno())} if warm else {}
        with ours, theirs, subprocess.Popen(
            [sys.executable, "train.py"], cwd=RECIPE, env=env, pass_fds=[theirs.fileno()], stdout=subprocess.DEVNULL
        ) as process:  # fmt: skip
            if warm:
                assert ours.recv(1) == b"1"
            for name, array in (("images", images), ("labels", labels)):
                np.save(data / f".{name}", array)
                (data / f".{name}.npy").rename(data / f"{name}.npy")
            ours.send(b"1")
        assert process.returncode == 0
        made.append(torch.load(artefact / "weights.pt", weights_only=True))

    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
