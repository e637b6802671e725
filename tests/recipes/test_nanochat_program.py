"""What surrounds the nanochat network: text, processes, artefact, and the talk with the evaluator."""

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.recipes.nanochat import RECIPE, TEXT

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gitresearch[recipes]'")
torch.set_num_threads(1)  # as a trial has it; with a busy neighbour, two threads are many times slower than one
Parts = Callable[..., ModuleType]


def randomised(model: ModuleType) -> "torch.nn.Module":
    torch.manual_seed(0)
    net = model.GPT(300).eval()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return net


# -----------------------------------------------------------------------------
# the data


def cutter(parts: Parts, vocab: int = 300) -> "ModuleType":
    tokenizer = parts("tokenizer", VOCAB=vocab)
    made = tokenizer.Cutter(tokenizer.learn(text for texts in TEXT.values() for text in texts))
    assert isinstance(made, tokenizer.Cutter)
    return made  # type: ignore[no-any-return]


def text_of(made, tokens) -> str:  # type: ignore[no-untyped-def]
    pieces = {i: piece for piece, i in made.tokenizer.get_vocab().items()}
    value = {piece: i for i, piece in enumerate(sys.modules["nano.tokenizer"].byte_pieces())}
    return bytes(value[char] for i in tokens for char in pieces[int(i)]).decode("utf-8", "replace")


@pytest.mark.parametrize("begin", ["anywhere", "sentence", "document"])
def test_windows_are_the_text_and_begin_where_they_should(parts: Parts, data_folder: Path, begin: str) -> None:
    """Inputs are the targets one place later behind the start mark; windows begin with a sentence or a document where
    that is asked for."""
    made = cutter(parts)
    data = parts("data", BEGIN=begin, SEQUENCE=16, BATCH=8)
    supply = data.Supply(data.paths(), made, seed=1)
    inputs, targets = supply.next(0.5)
    openings = {sentence for texts in TEXT.values() for text in texts for sentence in data.SENTENCE_END.split(text)}
    if begin == "document":
        openings = {text for texts in TEXT.values() for text in texts}

    assert inputs.shape == targets.shape == (8, 16)
    assert (inputs[:, 0] == made.vocab).all()
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    if begin != "anywhere":
        assert all(any(text_of(made, row).startswith(opening[:8]) for opening in openings) for row in targets)


def test_sources_are_drawn_as_often_as_they_are_weighed(parts: Parts, data_folder: Path) -> None:
    """A source of weight 0 is never drawn."""
    made = cutter(parts)
    data = parts("data", SPEECHES=0.0, BIBLE=0.0, BEGIN="document", SEQUENCE=32, BATCH=16)
    _, targets = data.Supply(data.paths(), made, seed=1).next(0.5)

    assert all(text_of(made, row).startswith("Call me Ishmael") for row in targets)


def test_growing_sequences_keep_the_tokens_of_a_step(parts: Parts, data_folder: Path) -> None:
    """Short sequences first, twice as many of them."""
    data = parts("data", GROW=0.5, SEQUENCE=16, BATCH=8)
    supply = data.Supply(data.paths(), cutter(parts), seed=1)

    assert [tuple(supply.next(progress)[0].shape) for progress in (0.1, 0.6)] == [(16, 8), (8, 16)]


def test_what_stands_twice_is_left_out(parts: Parts, data_folder: Path) -> None:
    """With DEDUP a long sentence is cut once."""
    made = cutter(parts)
    left = [parts("data", DEDUP=on).Supply(parts("data").paths(), made, seed=1).left for on in (False, True)]

    assert left[1] < 0.6 * left[0]


def test_a_text_that_begins_anew_is_no_repetition(parts: Parts, data_folder: Path) -> None:
    """With DEDUP a source that is short is cut again as it was: what counts is what stands twice in view."""
    made, data = cutter(parts), parts("data", DEDUP=True)
    (data_folder / "novel.txt").write_text(
        "\n\n".join(f"Document {i}, which has a sentence as long as this. It ends." for i in range(20))
    )
    text = data.Text([data_folder / "novel.txt"], 1.0, 1.0, 0, 1)
    first, second = (len(text.cut(made).tokens) for _ in range(2))

    assert second > 0.8 * first


def test_text_is_read_on_when_it_was_seen(parts: Parts, data_folder: Path) -> None:
    """With RENEW other text is cut once the first has been used up; processes take documents of their own."""
    made = cutter(parts)
    (data_folder / "novel.txt").write_text("\n\n".join(f"Document {i} of many. It ends." for i in range(200)))
    data = parts("data", RENEW=True, TEXT_BYTES=2000, SEQUENCE=16, BATCH=32, SPEECHES=0.0, BIBLE=0.0)
    supply = data.Supply(data.paths(), made, 1, rank=0, world=2)
    before = supply.sources[1].tokens  # of bible, novel and speeches
    for _ in range(4):
        supply.next(0.0)
    other = data.Supply(data.paths(), made, 1, rank=1, world=2).sources[1].tokens

    assert not torch.equal(before[:50], supply.sources[1].tokens[:50])
    assert not torch.equal(before[:50], other[:50])


def test_documents_come_from_json_lines_too(parts: Parts, data_folder: Path) -> None:
    """One object with a text a line is one document."""
    (data_folder / "more.jsonl").write_text('{"text": "one\\n\\nstill one"}\n{"text": "two"}\n')

    assert list(parts("data").read(data_folder / "more.jsonl")) == ["one\n\nstill one", "two"]


def test_no_data_is_said_so(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder ends in one sentence."""
    monkeypatch.setenv("GITRESEARCH_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="GITRESEARCH_DATA"):
        parts("data").paths()


# -----------------------------------------------------------------------------
# machine and artefact


def test_a_gpu_that_is_not_there_is_an_error_with_what_to_type(parts: Parts) -> None:
    """Nothing falls back to the CPU in silence."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SystemExit, match="try: gitresearch init"):
        parts("system", DEVICE="cuda").System()


def test_a_batch_in_parts_has_the_gradients_of_the_whole(
    parts: Parts, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accumulation changes memory and nothing else."""
    train, system = parts("train"), parts("system")
    torch.manual_seed(0)
    loss = train.Loss(parts("model", WIDTH=32).GPT(260))
    tokens = torch.randint(260, (6, 9), generator=torch.Generator().manual_seed(0))
    found = []
    for pieces in (1, 3):
        monkeypatch.setattr(system, "ACCUMULATE", pieces)
        loss.zero_grad()
        value = train.step_loss(loss, (tokens[:, :-1], tokens[:, 1:]), system.System())
        found.append([value, *(p.grad.clone() for p in loss.parameters())])

    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_weights_come_back_from_the_artefact(parts: Parts, tmp_path: Path, kind: str) -> None:
    """What is stored is what is loaded, to the precision of its type."""
    checkpoint = parts("checkpoint", STORED=kind)
    state = parts("model", WIDTH=32).GPT(260).state_dict()
    size = checkpoint.save(tmp_path, state, [("a", "b")])
    back = checkpoint.load(tmp_path)

    assert (tmp_path / "weights.bin").stat().st_size == size
    assert json.loads((tmp_path / "tokenizer.json").read_text()) == {"merges": [["a", "b"]]}
    for name, weight in state.items():
        torch.testing.assert_close(back[name], weight, atol=0 if kind == "float32" else 1e-3, rtol=0)


def test_the_predictor_speaks_as_it_is_asked(parts: Parts) -> None:
    """Logits come for rows that go on and for no others, whether prompts are shared or not."""
    predict, system = parts("predict"), parts("system")
    net = randomised(parts("model"))
    batch = {"rows": 3, "length": 2, "steps": 2}
    asked = json.dumps(batch).encode() + b"\n" + np.array([2, 2, 1, 5, 6, 5, 6, 7, 0], dtype="<i4").tobytes()
    asked += np.array([8, -1, 9], dtype="<i4").tobytes()
    said = []
    for shared in (True, False):
        system.SHARE_PROMPTS = shared
        out = io.BytesIO()
        predict.answer(net, system.System(), io.BytesIO(asked), out, "<f4")
        said.append(np.frombuffer(out.getvalue(), dtype="<f4").reshape(5, 300))

    np.testing.assert_allclose(said[0], said[1], atol=1e-4)
    np.testing.assert_allclose(said[0][0], said[0][1], atol=1e-6)
    assert not np.allclose(said[0][0], said[0][2], atol=1e-2)


DDP = """
import sys
from nano import system, model
model.WIDTH = 32
import torch, train
machine = system.System()
torch.manual_seed(0)
loss = machine.spread(train.Loss(model.GPT(260)))
tokens = torch.randint(260, (8, 9), generator=torch.Generator().manual_seed(0))
mine = tokens.chunk(machine.world)[machine.rank]
system.ACCUMULATE = 2
train.step_loss(loss, (mine[:, :-1], mine[:, 1:]), machine)
told = machine.told([machine.rank])
stop = machine.agreed(machine.rank == 1)
if machine.first:
    torch.save([[p.grad for p in loss.parameters()], told, stop], sys.argv[1])
machine.close()
"""


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    """Half the batch each over gloo, averaged, is the whole batch in one process; what one is told, and that one wants
    to stop, both know."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = []
    for world in (1, 2):
        running = []
        for rank in range(world):
            env = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "PYTHONPATH": str(RECIPE)}
            env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"}
            argv = [sys.executable, "-c", DDP, str(tmp_path / f"{world}.pt")]
            running.append(subprocess.Popen(argv, env=os.environ | env))
        assert [process.wait(120) for process in running] == [0] * world
        found.append(torch.load(tmp_path / f"{world}.pt"))

    for one, two in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-4)
    assert [told for _, told, _ in found] == [[0], [0]]
    assert [stop for _, _, stop in found] == [False, True]
