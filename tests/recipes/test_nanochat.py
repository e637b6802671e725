"""The nanochat recipe's parts, each against what it should be: attention, optimiser, data, processes, predictor."""

import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from gitresearch.agents.offline.domain import Choice
from gitresearch.agents.offline.find import find
from gitresearch.study import load

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gitresearch[recipes]'")
torch.set_num_threads(1)  # as a trial has it; with a busy neighbour, two threads are many times slower than one
RECIPE = Path(__file__).resolve().parents[2] / "recipes/nanochat"
Parts = Callable[..., ModuleType]


# -----------------------------------------------------------------------------
# the network


def plain_attention(q, k, v, window):  # type: ignore[no-untyped-def]
    """Causal attention one query at a time, with as many key heads as query heads: (H, T, d)."""
    out = np.zeros_like(q)
    for head in range(q.shape[0]):
        for t in range(q.shape[1]):
            first = max(0, t - window + 1) if window else 0
            scores = k[head, first : t + 1] @ q[head, t] / math.sqrt(q.shape[2])
            weights = np.exp(scores - scores.max())
            out[head, t] = weights / weights.sum() @ v[head, first : t + 1]
    return out


@pytest.mark.parametrize("shared", [1, 2, 4])
@pytest.mark.parametrize("window", [0, 8])
def test_attention_is_that_of_a_plain_loop(parts: Parts, shared: int, window: int) -> None:
    """Shared key heads equal repeated ones, and a window sees its own number of tokens and none that comes later."""
    model = parts("model", SHARED_BY=shared, WINDOW=8, WINDOWS="SL", DEPTH=2)
    layer = model.Attention(0 if window else 1, 300)
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 4, 20, 16, generator=generator)
    k, v = torch.randn(2, 1, 4 // shared, 20, 16, generator=generator)
    got = layer.attend(q, k, v, torch.arange(20)[None], None)[0]

    wide = [part[0].repeat_interleave(shared, dim=0).numpy() for part in (k, v)]
    np.testing.assert_allclose(got.numpy(), plain_attention(q[0].numpy(), *wide, window), atol=1e-5)


def test_rotary_positions_make_a_match_of_the_distance_alone(parts: Parts) -> None:
    """q at 7 and k at 3 match as q at 104 and k at 100, whatever stands there, and their lengths stay."""
    model = parts("model")
    q, k = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0))

    def match(a: int, b: int) -> float:
        turned = model.rotate(q, torch.tensor([[a]])), model.rotate(k, torch.tensor([[b]]))
        assert float(turned[0].norm()) == pytest.approx(float(q.norm()), rel=1e-5)
        return float((turned[0] * turned[1]).sum())

    assert match(7, 3) == pytest.approx(match(104, 100), abs=1e-4)
    assert match(7, 3) != pytest.approx(match(17, 3), abs=1e-2)


def randomised(model: ModuleType) -> "torch.nn.Module":
    torch.manual_seed(0)
    net = model.GPT(300).eval()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return net


CHOICES = {
    "ACTIVATION": ["gelu", "relu", "relu2", "silu", "swiglu"],
    "NORM": ["layer", "rms", "rms_plain"],
    "POSITION": ["rotary", "none"],
    "VALUES": ["first", "embedded"],
    "SKIP": ["embedding", "unet"],
    "SHARED_BY": [2, 4],
    "WINDOWS": ["SL"],
    "QK_NORM": [True],
    "TIED": [True],
    "EMBED_NORM": [True],
    "LOGIT_CAP": [15],
    "LOGIT_BIAS": [True],
}


ALL_AT_ONCE = {name: values[-1] for name, values in CHOICES.items()} | {"POSITION": "rotary"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in CHOICES.items() for v in values])
def test_every_choice_predicts_a_token_at_a_time_what_the_whole_does(parts: Parts, name: str, value: object) -> None:
    """The next test's rule, for each structural choice by itself."""
    test_one_token_at_a_time_predicts_what_the_whole_does(parts, {name: value})


@pytest.mark.parametrize("chosen", [{}, ALL_AT_ONCE], ids=["plain", "all at once"])
def test_one_token_at_a_time_predicts_what_the_whole_does(parts: Parts, chosen: dict[str, object]) -> None:
    """Prompts of different lengths read into a cache, and then a token at a time, predict what each whole row does by
    itself: no look ahead, no padding seen, no neighbour seen."""
    model = parts("model", DEPTH=3, WINDOW=8, **chosen)
    predict = parts("predict")
    net = randomised(model)
    tokens = torch.randint(300, (3, 24), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([20, 0, 9])
    prompts = torch.where(torch.arange(20)[None] < lengths[:, None], tokens[:, :20], torch.zeros(1, dtype=torch.long))
    with torch.inference_mode():
        rows = predict.Rows(net, prompts, lengths, 4)
        got = [rows.logits()]
        for step in range(3):
            rows.observe(tokens[torch.arange(3), lengths + step])
            got.append(rows.logits())
        for row, length in enumerate(lengths.tolist()):
            marked = torch.cat([torch.tensor([net.vocab]), tokens[row, : length + 3]])[None]
            whole = net.logits(net(marked))[0, length:]
            torch.testing.assert_close(torch.stack(got)[:, row], whole, atol=2e-4, rtol=1e-3)


def test_prompts_that_are_too_long_lose_their_beginning(parts: Parts) -> None:
    """What is kept is the end, and with the steps to come it fits in what the network can see."""
    crop = parts("predict").crop
    prompts = torch.arange(1, 11).repeat(2, 1)
    kept, lengths = crop(prompts, torch.tensor([10, 3]), 7)

    assert kept[0].tolist() == [5, 6, 7, 8, 9, 10]
    assert (kept[1, :3].tolist(), lengths.tolist()) == ([1, 2, 3], [6, 3])


def test_constants_that_do_not_go_together_are_said_at_once(parts: Parts) -> None:
    """A width that the heads don't divide ends before any training."""
    with pytest.raises(ValueError, match="WIDTH 72"):
        parts("model", WIDTH=72, HEADS=16).GPT(300)


def test_every_specialist_can_change_structure_and_not_only_numbers() -> None:
    """The offline agent finds a choice between pieces of code on each surface, and only what states its domain."""
    study = load((RECIPE / "study.toml").read_text("utf-8"))
    for specialist in study.specialists:
        files = [RECIPE.parents[1] / path for path in specialist.surface]
        levers = [lever for path in files for lever in find(path.name, path.read_bytes())]
        assert any(isinstance(lever.domain, Choice) for lever in levers)
        assert all(lever.name.isupper() for lever in levers)


# -----------------------------------------------------------------------------
# the optimiser and the schedule


@pytest.mark.parametrize("shape", [(24, 48), (48, 24), (32, 32)])
def test_muon_makes_every_direction_move_alike(parts: Parts, shape: tuple[int, int]) -> None:
    """Newton-Schulz brings the singular values of an update near one, whatever its shape, and keeps its directions."""
    update = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    found = parts("optimizer").orthogonalise(update, 5)
    values = torch.linalg.svdvals(found)

    assert values.max() < 1.4
    assert values.median() > 0.6
    assert float((found * update).sum()) > 0


@pytest.mark.slow  # torch's own AdamW imports its compiler
@pytest.mark.parametrize("kind", ["adamw", "muon", "lion"])
def test_every_optimiser_learns(parts: Parts, kind: str) -> None:
    """A few steps on one batch lower its loss, and every parameter belongs to exactly one group."""
    optimizer = parts("optimizer", OPTIMIZER=kind, DECAY="linear")
    torch.manual_seed(0)
    model = parts("model", WIDTH=32, VALUES="embedded", SKIP="embedding", LOGIT_BIAS=True).GPT(260)
    made = optimizer.make_optimizers(model)
    rates = optimizer.Rates(made)
    owned = [id(p) for one in made for group in one.param_groups for p in group["params"]]
    tokens = torch.randint(260, (4, 17), generator=torch.Generator().manual_seed(0))
    losses = []
    for step in range(8):
        rates.set(1.0, step / 8)
        logits = model.logits(model(tokens[:, :-1]))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        for one in made:
            one.step()
            one.zero_grad()
        losses.append(loss.item())

    assert sorted(owned) == sorted(id(p) for p in model.parameters())
    assert losses[-1] < losses[0] - 0.1
    assert made[0].param_groups[0]["weight_decay"] == pytest.approx(optimizer.WEIGHT_DECAY / 8)


@pytest.mark.parametrize("shape", ["constant", "cosine", "linear", "trapezoid"])
def test_the_schedule_starts_low_peaks_at_one_and_ends_at_final(parts: Parts, shape: str) -> None:
    """Every shape warms up from zero to one and never exceeds it."""
    schedule = parts("schedule", SCHEDULE=shape)
    rates = [schedule.rate(i / 200) for i in range(201)]

    assert rates[0] == 0.0
    assert max(rates) == pytest.approx(1.0, abs=0.02)
    assert rates[-1] == pytest.approx(1.0 if shape == "constant" else schedule.FINAL)


@pytest.mark.parametrize(("heads", "shared"), [(1, 8), (2, 4), (4, 8), (4, 4)])
def test_more_sharing_than_heads_is_one_group(parts: Parts, heads: int, shared: int) -> None:
    """No value of the two crashes a trial: as many key heads as there can be, one at least."""
    model = parts("model", HEADS=heads, SHARED_BY=shared)
    model.check()
    assert model.groups() == 1
    assert model.GPT(300).new_cache(2, 8)[0][0].shape[1] == 1
