"""The golf recipe and its hook: the parts an honest score rests on."""

import contextlib
import importlib.util
import itertools
import json
import math
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'gitresearch[recipes]'")
torch.set_num_threads(1)  # as a trial has it; with a busy neighbour, two threads are many times slower than one
TOP = Path(__file__).resolve().parents[2]
RECIPE = TOP / "recipes/parameter_golf"
HOOK = TOP / "evaluator_hooks/parameter_golf/hook.py"
TEXT = "In the beginning God created the heaven and the earth. É ÿ\n" * 40


def module(path: Path) -> ModuleType:
    """A file as a fresh module of its own."""
    spec = importlib.util.spec_from_file_location(f"golf_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


hook = module(HOOK)


@pytest.fixture
def parts() -> Iterator[Callable[..., ModuleType]]:
    """The recipe's files as modules, with constants set: `parts("model", NORM="rms")`."""
    loaded = {}
    sys.path.insert(0, str(RECIPE))

    def load(name: str, **constants: object) -> ModuleType:
        sys.modules.pop(name, None)
        made = importlib.import_module(name)
        for key, value in constants.items():
            assert hasattr(made, key)
            setattr(made, key, value)
        loaded[name] = made
        return made

    yield load
    sys.path.remove(str(RECIPE))
    for name in loaded:
        sys.modules.pop(name, None)


CHOICES = {
    "ACTIVATION": ["gelu", "relu", "relu2", "silu", "swiglu"],
    "NORM": ["layer", "rms"],
    "POSITION": ["learned", "rotary", "none"],
    "QK_NORM": [False, True],
    "TIED": [True, False],
    "PARALLEL": [False, True],
    "TOKEN_SHIFT": [False, True],
    "LOGIT_CAP": [0, 15],
    "HEADS": [1, 8],
    "KV_HEADS": [1, 2],
    "LOOPS": [2, 3],
    "SKIPS": [True],
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in CHOICES.items() for v in values])
def test_one_token_at_a_time_predicts_what_the_whole_does(
    parts: Callable[..., ModuleType], name: str, value: object
) -> None:
    """For every structural choice, the cached step-by-step network equals the parallel one: no look ahead, no drift."""
    model = parts("model", **{name: value})
    torch.manual_seed(0)
    net = model.GPT(300).eval()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    tokens = torch.cat([torch.full((3, 1), 300), torch.randint(300, (3, 20))], dim=1)
    with torch.inference_mode():
        whole, _ = net(tokens)
        cache, steps = None, []
        for t in range(tokens.shape[1]):
            out, cache = net(tokens[:, t : t + 1], cache, tokens[:, t - 1] if t else None)
            steps.append(out)

    torch.testing.assert_close(whole, torch.cat(steps, dim=1), atol=2e-4, rtol=1e-3)


WAYS = [*zip(["packed", "bytes", "columns"], ["zlib", "lzma", "bz2"], strict=True)]


@pytest.mark.parametrize(("bits", "way"), [*itertools.product([4, 5, 6, 8, 16], WAYS)])
def test_weights_survive_packing_within_half_a_step(
    parts: Callable[..., ModuleType], bits: int, way: tuple[str, str]
) -> None:
    """Every weight comes back within half a quantisation step of its row, whatever the layout and the compressor."""
    quantize = parts("quantize", BITS=bits, EMBED_BITS=bits, LAYOUT=way[0], COMPRESSION=way[1])
    weight = torch.randn(17, 33, generator=torch.Generator().manual_seed(1))
    back = quantize.unpack(quantize.pack({"blocks.0.w": weight, "norm": weight[0]}))

    step = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1) if bits < 16 else torch.tensor(2e-3)
    assert ((back["blocks.0.w"] - weight).abs() <= 0.51 * step + 1e-3).all()
    torch.testing.assert_close(back["norm"], weight[0], atol=2e-3, rtol=1e-3)


def test_muon_makes_every_direction_move_alike(parts: Callable[..., ModuleType]) -> None:
    """Newton-Schulz brings all singular values of an update near one."""
    values = torch.linalg.svdvals(parts("optimizer").orthogonalise(torch.randn(24, 48)))

    assert values.min() > 0.5
    assert values.max() < 1.4


@pytest.mark.parametrize("shape", ["constant", "cosine", "linear", "trapezoid"])
def test_the_schedule_starts_low_peaks_at_one_and_ends_at_final(parts: Callable[..., ModuleType], shape: str) -> None:
    """Every shape warms up from zero to one and never exceeds it."""
    schedule = parts("schedule", SCHEDULE=shape)
    rates = [schedule.rate(i / 200) for i in range(201)]

    assert rates[0] == 0.0
    assert max(rates) == pytest.approx(1.0, abs=0.02)
    assert rates[-1] == pytest.approx(1.0 if shape == "constant" else schedule.FINAL)


def test_the_recipe_and_the_hook_cut_text_alike(parts: Callable[..., ModuleType]) -> None:
    """The recipe's tokens are the evaluator's, and their bytes are the text's."""
    tokenizer = parts("tokenizer", VOCAB=300)
    merges = tokenizer.learn_merges(TEXT)
    ids, vocab = hook.encode(TEXT.encode(), merges)

    assert vocab == 256 + len(merges)
    assert ids == tokenizer.encode(TEXT, tokenizer.make_tokenizer(merges)).tolist()


def artefact(folder: Path, merges: object = ()) -> Path:
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps({"merges": merges}))
    return folder


def scored(
    folder: Path, held_out: Path, predictor: Callable[[dict[str, int], object, object], None]
) -> dict[str, object]:
    """Score with a predictor that is a function of the header and the two pipes."""
    held_out.mkdir(exist_ok=True)
    (held_out / "held_out.txt").write_text(TEXT)
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    def serve() -> None:
        hung_up = contextlib.suppress(BrokenPipeError, json.JSONDecodeError)  # by the hook, before the header
        with hung_up, os.fdopen(to_read, "rb") as source, os.fdopen(from_write, "wb") as out:
            predictor(json.loads(source.readline()), source, out)

    thread = threading.Thread(target=serve)
    thread.start()
    request = {"tree": "", "artefact": str(folder), "held_out": str(held_out), "settings": {"streams": 7}}
    reply = hook.answer("score", request | {"to_trial": to_write, "from_trial": from_read})
    thread.join(10)
    assert isinstance(reply, dict)
    return reply


def constant(value: float) -> Callable[..., None]:
    """A predictor that finds all tokens equally likely."""

    def predict(header, source, out):  # type: ignore[no-untyped-def]
        logits = np.full((header["streams"], header["vocab"]), value, dtype="<f4").tobytes()
        for step in range(header["steps"]):
            out.write(logits)
            out.flush()
            if step + 1 < header["steps"]:
                source.read(4 * header["streams"])

    return predict


def test_a_uniform_predictor_costs_exactly_log2_of_the_vocabulary(tmp_path: Path) -> None:
    """With 256 byte tokens every byte costs eight bits, whatever constant the logits are."""
    reply = scored(artefact(tmp_path / "a"), tmp_path / "h", constant(123.0))

    metrics = reply["metrics"]
    assert metrics["val_bpb"] == pytest.approx(8.0)  # type: ignore[index]
    assert metrics["bytes"] == len(TEXT.encode())  # type: ignore[index]
    assert metrics["val_loss"] == pytest.approx(math.log(256))  # type: ignore[index]


def test_claiming_more_than_all_probability_gains_nothing(tmp_path: Path) -> None:
    """Logits are normalised by the hook: adding a thousand to all of them changes no score."""
    assert scored(artefact(tmp_path / "a"), tmp_path / "h", constant(1e3)) == scored(
        artefact(tmp_path / "b"), tmp_path / "h", constant(0.0)
    )


def test_a_predictor_that_waits_for_the_answer_first_gets_none(tmp_path: Path) -> None:
    """No token comes before its prediction: reading ahead ends in a crash of the trial, never in a better score."""

    def peek(header, source, out):  # type: ignore[no-untyped-def]
        readable, _, _ = select.select([source], [], [], 0.3)
        assert not readable

    reply = scored(artefact(tmp_path / "a"), tmp_path / "h", _quiet(peek))

    assert "crashed" in reply


def _quiet(predictor: Callable[..., None]) -> Callable[..., None]:
    def run(header, source, out):  # type: ignore[no-untyped-def]
        with contextlib.suppress(OSError):
            predictor(header, source, out)

    return run


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (lambda h: b"", "crashed"),
        (lambda h: b"\0" * 10, "crashed"),
        (lambda h: np.full((h["streams"], h["vocab"]), np.nan, dtype="<f4").tobytes(), "crashed"),
        (lambda h: np.full((h["streams"], h["vocab"]), np.inf, dtype="<f4").tobytes(), "crashed"),
        (lambda h: b"\0" * (4 * h["streams"] * h["vocab"] * h["steps"] + 1), "invalid"),
    ],
)
def test_predictions_that_are_none_give_no_score(tmp_path: Path, sent: Callable[..., bytes], kind: str) -> None:
    """Too few bytes, too many, NaN and infinity end as a crash or as invalid."""

    def predict(header, source, out):  # type: ignore[no-untyped-def]
        threading.Thread(target=source.read, daemon=True).start()
        out.write(sent(header))
        out.flush()

    reply = scored(artefact(tmp_path / "a"), tmp_path / "h", predict)

    assert kind in reply
    assert "metrics" not in reply


@pytest.mark.parametrize(
    "text",
    [
        '{"merges": [], "merges": []}',
        '{"merges": NaN}',
        '{"merges": [["a", "b"]], "normalizer": {}}',
        '{"merges": [["a", "zz"]]}',
        '{"merges": [["a", "b"], ["a", "b"]]}',
        '{"merges": [["a", 1]]}',
        '{"merges": [["", "b"]]}',
        "[" * 100_000,
        '{"merges": 1e999999}',
        "\xff",
        "",
    ],
)
def test_a_tokenizer_that_is_none_is_invalid(tmp_path: Path, text: str) -> None:
    """Duplicate keys, odd numbers, extra configuration, impossible merges, depth and rubbish: a reply, no traceback."""
    folder = artefact(tmp_path / "a")
    (folder / "tokenizer.json").write_bytes(text.encode("latin-1"))

    assert "invalid" in scored(folder, tmp_path / "h", _quiet(constant(0.0)))


def link(folder: Path) -> None:
    (folder / "weights.bin").symlink_to("/etc/passwd")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "weights.bin")


def hard(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"x")
    os.link(folder / "weights.bin", folder.parent / "elsewhere")


def sparse(folder: Path) -> None:
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(1 << 40)


def nested(folder: Path) -> None:
    (folder / "more").mkdir()


def many(folder: Path) -> None:
    for i in range(40):
        (folder / f"{i}").touch()


@pytest.mark.parametrize("make", [link, pipe, hard, sparse, nested, many])
def test_an_artefact_that_is_no_plain_folder_of_files_is_invalid(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Links, pipes, hard links, sparse giants, folders and crowds are refused, and none of them is waited on."""
    folder = artefact(tmp_path / "a")
    make(folder)

    assert "invalid" in hook.answer("measure", {"tree": str(RECIPE), "artefact": str(folder)})


def test_size_counts_code_and_artefact(tmp_path: Path) -> None:
    """The bytes are those of the artefact's files, of their names, and of the code under one compressor."""
    folder, tree = artefact(tmp_path / "a"), tmp_path / "tree"
    tree.mkdir()  # as git holds it: a working copy may have caches beside the code
    for path in RECIPE.glob("*.py"):
        (tree / path.name).write_bytes(path.read_bytes())
    (folder / "weights.bin").write_bytes(os.urandom(1000))
    reply = hook.answer("measure", {"tree": str(tree), "artefact": str(folder)})

    assert reply["parts"]["artefact"] == 1000 + len(b'{"merges": []}')
    assert reply["parts"]["names"] == len("weights.bin") + len("tokenizer.json")
    assert reply["artefact_bytes"] == sum(reply["parts"].values())
    assert 3_000 < reply["parts"]["code"] < sum(len(p.read_bytes()) for p in RECIPE.glob("*.py")) / 2


@pytest.mark.parametrize(
    ("name", "text", "status"),
    [("train.py", "def f(:\n", "preflight_crash"), ("predict.py", None, "preflight_crash"), ("x.py", "", "ok")],
)
def test_preflight_finds_what_is_doomed(tmp_path: Path, name: str, text: str | None, status: str) -> None:
    """A file that does not parse or is missing ends before any training."""
    for path in RECIPE.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).unlink(missing_ok=True)
    if text is not None:
        (tmp_path / name).write_text(text)
    reply = hook.answer("preflight", {"tree": str(tmp_path), "limits": {"artefact_bytes": 160_000}})

    assert reply.get("status", "ok") == status


def test_the_hook_answers_in_one_json_object(tmp_path: Path) -> None:
    """As a program: one request on stdin, one reply on stdout, nothing else there."""
    request = {"tree": str(RECIPE), "limits": {"artefact_bytes": 10}, "settings": {}}
    done = subprocess.run(
        [sys.executable, "-I", str(HOOK), "preflight"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(done.stdout)["status"] == "size_blocked"
