"""The nanochat hook face to face with trees, artefacts and predictors: honest ones, and others."""

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.recipes.nanochat import (
    CAP,
    ITEMS,
    RECIPE,
    Guess,
    Rows,
    bundle,
    copier,
    core,
    hook,
    load,
    scored,
    served,
    uniform,
)

# -----------------------------------------------------------------------------
# the talk: honest predictors and others


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """A small held-out folder: a text, and three tasks of which copying solves all."""
    made = tmp_path / "held_out"
    made.mkdir()
    (made / "some.txt").write_text("In the beginning was the word. É ÿ " * 30, "utf-8")
    bundle.write(made / "tasks", [(name, *rest) for name, rest in ITEMS.items()])
    return made


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    folder = tmp_path / "artefact"
    folder.mkdir()
    (folder / "tokenizer.json").write_text('{"merges": []}')
    return folder


def test_a_predictor_that_knows_nothing_gets_nothing(held_out: Path, artefact: Path) -> None:
    """Chance is 0 exactly, and eight bits a byte."""
    metrics = scored(held_out, artefact, served(uniform))["metrics"]

    assert metrics["mini_core"] == pytest.approx(0.0, abs=1e-9)
    assert metrics["val_bpb"] == pytest.approx(8.0)


def test_a_predictor_that_copies_solves_what_copying_solves(held_out: Path, artefact: Path) -> None:
    """A model with the skill gets all of it, item by item."""
    metrics = scored(held_out, artefact, served(copier))["metrics"]

    assert metrics["mini_core"] == pytest.approx(1.0)
    assert {metrics[f"task_{name}"] for name in ITEMS} == {1.0}


def test_claiming_more_than_all_probability_gains_nothing(held_out: Path, artefact: Path) -> None:
    """The log-softmax is the hook's: a thousand more on every logit changes no score."""
    plain = scored(held_out, artefact, served(copier))["metrics"]
    loud = scored(held_out, artefact, served(lambda rows: copier(rows) + 1000.0))["metrics"]

    assert loud == pytest.approx(plain, abs=1e-4)


def test_logits_as_large_as_there_are_have_a_score(held_out: Path, artefact: Path) -> None:
    """Finite numbers whose difference is none in 32 bits are a prediction like any other, no fault of the hook's."""

    def sure(rows: Rows) -> Any:
        logits = np.full(uniform(rows).shape, -3e38, dtype="<f4")
        logits[:, 0] = 3e38
        return logits

    metrics = scored(held_out, artefact, served(sure))["metrics"]
    assert metrics["val_bpb"] > 1e37
    assert math.isfinite(metrics["val_bpb"])


def test_no_token_is_told_before_it_is_predicted(held_out: Path, artefact: Path) -> None:
    """What a predictor has when it must answer is the prompt, then the prompt and the tokens before this one: never the
    last token of any continuation."""
    seen: set[tuple[int, ...]] = set()

    def remember(rows: Rows) -> Any:
        seen.update(map(tuple, rows))
        return uniform(rows)

    scored(held_out, artefact, served(remember))
    cut = hook.beside("tokens").Tokens(b'{"merges": []}').encode
    asked = core.questions(bundle.read(held_out / "tasks"), cut, 0)
    asked += core.windows(cut([hook.held_out_text(held_out)])[0], hook.WINDOW, hook.WINDOWS)
    rows = [row for question in asked for row in question.rows]
    assert seen == {row.prompt + row.continuation[:k] for row in rows for k in range(len(row.continuation))}


def test_a_predictor_that_waits_for_the_answer_gets_none(held_out: Path, artefact: Path) -> None:
    """One that reads on instead of predicting gets nothing more to read."""

    def wait(header, source, out):  # type: ignore[no-untyped-def]
        asked = json.loads(source.readline())
        source.read(4 * asked["rows"] * (1 + asked["length"]))
        os.set_blocking(source.fileno(), False)
        assert source.read(1) in (None, b"")

    assert "crashed" in scored(held_out, artefact, wait)


def test_the_order_of_options_tells_nothing(held_out: Path, artefact: Path) -> None:
    """Rows of an item come in an order drawn anew: preferring the first row of a batch, or the last, gains nothing."""
    firsts = set()

    def first(rows: Rows) -> Any:
        firsts.update(["".join(map(chr, rows[0]))] if rows[0] else [])
        out = uniform(rows)
        out[0, :] = np.arange(256)
        return out

    for _ in range(4):
        scored(held_out, artefact, served(first), rows=64, asked_twice=0)
    assert len(firsts) > 4


def test_options_are_asked_together_and_in_step(held_out: Path, artefact: Path) -> None:
    """When a row's token is to be predicted, its siblings have not been told theirs of that place either: in a schema
    task, where the siblings' continuation is the same, one can't be scored with the other's known."""
    told: list[tuple[int, int]] = []

    def watch(rows: Rows) -> Any:
        for a in "abcdefgh":
            mine = [row for row in rows if "".join(map(chr, row)).startswith(f"the {a}")]
            other = {"abcdefgh"[i]: "pqrstuvw"[i] for i in range(8)}[a]
            theirs = [row for row in rows if "".join(map(chr, row)).startswith(f"the {other}z")]
            told.extend((len(x) - len("the a "), len(y) - len("the pz ")) for x, y in zip(mine, theirs, strict=True))
        return uniform(rows)

    scored(held_out, artefact, served(watch), asked_twice=0)
    assert told
    assert all(mine == theirs for mine, theirs in told)


def drifting(rows: Rows, state: list[int] = []) -> Any:  # noqa: B006
    state.append(1)
    return copier(rows) * (1 + 0.1 * len(state))


def by_neighbours(rows: Rows) -> Any:
    return copier(rows) - copier(rows).mean(axis=0)


def by_padding(rows: Rows) -> Any:
    return copier(rows) * (1 + 0.01 * max(map(len, rows)))


@pytest.mark.parametrize("guess", [drifting, by_neighbours, by_padding])
def test_an_answer_that_changes_with_its_company_is_invalid(held_out: Path, artefact: Path, guess: Guess) -> None:
    """Learning from what was asked, looking at other rows, and minding the padding are found by asking twice."""
    reply = scored(held_out, artefact, served(guess), asked_twice=24)

    assert "changes by" in reply["invalid"]


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (lambda count: b"", "crashed"),
        (lambda count: b"\0" * 10, "crashed"),
        (lambda count: np.full((count, 256), np.nan, dtype="<f4").tobytes(), "crashed"),
        (lambda count: np.full((count, 256), np.inf, dtype="<f4").tobytes(), "crashed"),
    ],
    ids=["nothing", "too little", "NaN", "infinity"],
)
def test_predictions_that_are_none_give_no_score(
    held_out: Path, artefact: Path, sent: Callable[[int], bytes], kind: str
) -> None:
    """Too few bytes, NaN and infinity end as a crash of the trial."""

    def predict(header, source, out):  # type: ignore[no-untyped-def]
        out.write(sent(json.loads(source.readline())["rows"]))

    assert kind in scored(held_out, artefact, predict)


def test_more_than_was_asked_for_is_invalid(held_out: Path, artefact: Path) -> None:
    """A byte too many at the end is no slip."""

    def talkative(header, source, out):  # type: ignore[no-untyped-def]
        served(uniform)(header, source, out)
        out.write(b"x")

    assert "more than was asked" in scored(held_out, artefact, talkative)["invalid"]


@pytest.mark.parametrize(
    "text",
    [
        '{"merges": [], "merges": []}',
        '{"merges": NaN}',
        '{"merges": [["a", "b"]], "normalizer": {}}',
        '{"merges": [["a", "zz"]]}',
        '{"merges": [["a", "b"], ["a", "b"]]}',
        '{"merges": [["a", 1]]}',
        "[" * 100_000,
        "\xff",
        "",
    ],
)
def test_a_tokenizer_that_is_none_is_invalid(held_out: Path, artefact: Path, text: str) -> None:
    """Duplicate keys, odd numbers, extra configuration, impossible merges, depth and rubbish: a reply, no traceback."""
    (artefact / "tokenizer.json").write_bytes(text.encode("latin-1"))

    assert "invalid" in scored(held_out, artefact, served(uniform))


def test_the_bytes_of_tokens_are_those_of_the_text(held_out: Path) -> None:
    """Tokens of several letters, of half a letter, and of several bytes a letter: a nat a token is so many bits a byte
    of what the windows show."""
    merges = [["t", "h"], ["th", "e"], ["Ġ", "the"], ["Ã", "ī"]]
    tokens = hook.beside("tokens").Tokens(json.dumps({"merges": merges}).encode())
    text = hook.held_out_text(held_out)
    ids = tokens.encode([text])[0]
    asked = core.windows(ids, 50, 3)
    answers = [[core.Answer([1.0] * 50, [False] * 50)] for _ in asked]
    seen = [tokens.bytes[token] for question in asked for token in question.rows[0].continuation]

    assert sum(len(tokens.bytes[token]) for token in ids) == len(text.encode())
    assert text.encode().startswith(b"".join(seen[:50]))
    assert {len(piece) for piece in seen} >= {1, 2, 4}
    wanted = 150 / math.log(2) / len(b"".join(seen))
    assert hook.bits_per_byte(asked, answers, tokens)["val_bpb"] == pytest.approx(wanted)


def test_a_larger_vocabulary_is_asked_for_by_its_merges(held_out: Path, artefact: Path) -> None:
    """The vocabulary is 256 and the merges; text comes back byte for byte."""
    (artefact / "tokenizer.json").write_text('{"merges": [["t", "h"], ["th", "e"]]}')
    told: list[int] = []

    def note(header, source, out):  # type: ignore[no-untyped-def]
        told.append(header["vocab"])

    scored(held_out, artefact, note)
    assert told == [258]


# -----------------------------------------------------------------------------
# tree and artefact


def link(folder: Path) -> None:
    (folder / "weights.bin").symlink_to("/etc/passwd")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "weights.bin")


def hard(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"x")
    os.link(folder / "weights.bin", folder.parent / "elsewhere")


def test_names_of_files_are_bytes_too(artefact: Path) -> None:
    """What a name carries is measured with what the file holds."""
    before = hook.answer("measure", {"tree": str(RECIPE), "artefact": str(artefact)})["artefact_bytes"]
    (artefact / ("x" * 200)).touch()

    assert hook.answer("measure", {"tree": str(RECIPE), "artefact": str(artefact)})["artefact_bytes"] == before + 200


def sparse(folder: Path) -> None:
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(1 << 40)


def nested(folder: Path) -> None:
    (folder / "more").mkdir()


@pytest.mark.parametrize("make", [link, pipe, hard, sparse, nested])
def test_an_artefact_that_is_no_plain_folder_of_files_is_invalid(artefact: Path, make: Callable[[Path], None]) -> None:
    """Links, pipes, hard links, sparse giants and folders are refused, and none of them is waited on."""
    make(artefact)

    assert "invalid" in hook.answer("measure", {"tree": str(RECIPE), "artefact": str(artefact)})


@pytest.mark.parametrize(
    ("name", "text", "status"),
    [
        ("nano/model.py", "def f(:\n", "preflight_crash"),
        ("train.py", None, "preflight_crash"),
        ("deep.py", "(" * 5000 + ")" * 5000, "preflight_crash"),
        ("nano/table.bin", "0", "size_blocked"),
    ],
)
def test_preflight_finds_what_is_doomed(tmp_path: Path, name: str, text: str | None, status: str) -> None:
    """Below the package too, what does not parse, is missing or too large ends before any training."""
    for path in RECIPE.rglob("*.py"):
        (tmp_path / path.relative_to(RECIPE)).parent.mkdir(exist_ok=True)
        (tmp_path / path.relative_to(RECIPE)).write_bytes(path.read_bytes())
    assert hook.answer("preflight", {"tree": str(tmp_path), **CAP})["ok"] is True
    (tmp_path / name).unlink(missing_ok=True)
    if text == "0":
        (tmp_path / name).write_bytes(os.urandom(2_100_000))
    elif text is not None:
        (tmp_path / name).write_text(text)

    assert hook.answer("preflight", {"tree": str(tmp_path), **CAP})["status"] == status


def test_whoever_imports_it_goes_on_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only as a program does it keep Python from writing bytecode; else all that is imported later is compiled anew."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    load()
    assert sys.dont_write_bytecode is False
