"""The full scale's data as a person provides it: read as it is written, or refused in one sentence."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.recipes.nanochat import (
    HOOK,
    ITEMS,
    bundle,
    copier,
    hook,
    load,
    scored,
    served,
)


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    folder = tmp_path / "artefact"
    folder.mkdir()
    (folder / "tokenizer.json").write_text('{"merges": []}')
    return folder


def prepare(cache: Path, **settings: object) -> dict[str, str]:
    reply = hook.answer("prepare", {"cache": str(cache), "settings": settings})
    assert isinstance(reply, dict)
    return reply


# -----------------------------------------------------------------------------
# full scale's data

CORE_YAML = """\
icl_tasks:
-
  label: zero
  dataset_uri: language/zero.jsonl
  num_fewshot: [0]
  icl_task_type: multiple_choice
- label: ten
  dataset_uri: ten.jsonl
  num_fewshot:
  - 2
  icl_task_type: language_modeling
  continuation_delimiter: "\\nAnswer: "
  has_categories: true
"""


def test_the_public_table_is_read_as_it_is_written() -> None:
    """Dashes on lines of their own or before a key, lists in brackets or below, quoted delimiters."""
    zero, ten = bundle.table(CORE_YAML)

    assert (zero["label"], zero["num_fewshot"], zero["icl_task_type"]) == ("zero", [0], "multiple_choice")
    assert (ten["num_fewshot"], ten["continuation_delimiter"]) == ([2], "\nAnswer: ")


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a person provides, in small: text, and a bundle of 22 tasks; and a pyarrow, which nobody imports here."""
    (tmp_path / "library/pyarrow").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "library")
    folder = tmp_path / "provided"
    (folder / "train").mkdir(parents=True)
    (folder / "train/shard_00.parquet").write_bytes(b"PAR1" + bytes(100) + b"text" + b"PAR1")
    (folder / "train/shard_01.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    (folder / "held_out").mkdir()
    (folder / "held_out/val.txt").write_text("Some held-out text. " * 6000)
    tasks = [(f"task{i}", *list(ITEMS.values())[i % 3]) for i in range(22)]
    bundle.write(folder / "held_out/eval_bundle", tasks)
    return folder


def test_what_a_person_provides_is_checked_and_identified(operator: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By setting or by variable; the digest changes with an item, and another than study.toml names is refused."""
    reply = prepare(operator, scale="full", data=str(operator))
    monkeypatch.setenv("GITRESEARCH_DATA_NANOCHAT", str(operator))

    assert prepare(operator, scale="full") == reply
    assert prepare(operator, scale="full", digest=reply["digest"]) == reply
    path = operator / "held_out/eval_bundle/eval_data/task0.jsonl"
    path.write_text(path.read_text().replace("aaa", "aab"))
    assert prepare(operator, scale="full")["digest"] != reply["digest"]
    assert "not the data" in prepare(operator, scale="full", digest=reply["digest"])["error"]


BUNDLE = "held_out/eval_bundle"


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("train/shard_00.parquet", b"PAR1" + b"text" + bytes(50), "cut off"),
        ("train/shard_00.parquet", b"PAR1" + bytes(50) + b"words" + b"PAR1", 'a column "text"'),
        ("train/shard_01.jsonl", b'{"text": "a"}\n{"text": "b', "cut off"),
        ("train/shard_01.jsonl", b'{"words": "a"}\n', "cut off"),
        ("held_out/val.txt", b"short", "val.txt"),
        ("held_out/val.txt", b"\xff\xfe" * 60_000, "UTF-8"),
        (f"{BUNDLE}/core.yaml", None, "core.yaml can't be read"),
        (f"{BUNDLE}/core.yaml", b"tasks:\n- a\n", "core.yaml:1"),
        (f"{BUNDLE}/core.yaml", b"icl_tasks:\n", "no task"),
        (f"{BUNDLE}/eval_meta_data.csv", b"Task,Chance\na,1\n", '"Eval Task"'),
        (f"{BUNDLE}/eval_meta_data.csv", b"Eval Task,Random baseline\ntask0,25\n", "no random baseline for 'task1'"),
        (f"{BUNDLE}/eval_meta_data.csv", b"Eval Task,Random baseline\ntask0,100\n", "not 0 to 100"),
        (f"{BUNDLE}/eval_data/task0.jsonl", None, "task0.jsonl can't be read"),
        (f"{BUNDLE}/eval_data/task0.jsonl", b'{"query": "a", "choices": ["x", "y"], "go', "task0.jsonl:1"),
        (f"{BUNDLE}/eval_data/task0.jsonl", b'{"query": "a", "choices": ["x", "y"], "gold": 2}\n', "task0.jsonl:1"),
        (f"{BUNDLE}/eval_data/task1.jsonl", b'{"query": "a", "choices": ["x", "y"], "gold": 1}\n', "task1.jsonl:1"),
    ],
)
def test_data_that_is_not_whole_is_said_before_a_trial_is_spent(
    operator: Path, path: str, text: bytes | None, told: str
) -> None:
    """Missing, cut off, or of another format: one sentence that names the file, and ends with what to type."""
    (operator / path).unlink() if text is None else (operator / path).write_bytes(text)
    error = prepare(operator, scale="full", data=str(operator))["error"]

    assert told in error
    assert "; try: ls -lR " in error


def test_what_can_not_be_read_is_said(operator: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder where a file should be, and parquet files where nothing reads them."""
    (operator / "train/a.txt").mkdir()
    error = prepare(operator, scale="full", data=str(operator))["error"]
    assert "a.txt can't be read: Is a directory; try: ls -lR " in error

    (operator / "train/a.txt").rmdir()
    monkeypatch.setattr(hook.beside("provided").importlib.util, "find_spec", lambda _name: None)
    assert prepare(operator, scale="full", data=str(operator))["error"].endswith("-m pip install pyarrow")


def test_a_bundle_of_fewer_tasks_is_not_core(operator: Path) -> None:
    """CORE is 22 tasks or it is not CORE."""
    table = operator / BUNDLE / "core.yaml"
    table.write_text(table.read_text().rpartition("-\n")[0])

    assert "21 tasks" in prepare(operator, scale="full", data=str(operator))["error"]


def test_no_path_at_full_scale_is_said_so(tmp_path: Path) -> None:
    """The variable to set is named."""
    assert prepare(tmp_path, scale="full")["error"].endswith("try: export GITRESEARCH_DATA_NANOCHAT=DIR")


def test_core_is_scored_from_the_bundle_in_half_precision(operator: Path, artefact: Path) -> None:
    """At full scale the metric is named core, over the operator's tasks, and so many items a task."""
    half = {"scale": "full", "logits": "float16", "items_per_task": 3}

    def serve(header, source, out):  # type: ignore[no-untyped-def]
        assert header["dtype"] == "float16"

        class Half:
            def write(self, data: bytes) -> None:
                out.write(np.frombuffer(data, dtype="<f4").astype("<f2").tobytes())

            def flush(self) -> None:
                out.flush()

        served(copier)(header, source, Half())

    metrics = scored(operator / "held_out", artefact, serve, **half)["metrics"]
    assert metrics["core"] == pytest.approx(1.0)
    assert metrics["items"] == 22 * 3 + hook.WINDOWS
    assert math.isfinite(metrics["val_bpb"])


@pytest.mark.slow
@pytest.mark.net
def test_the_real_tasks_are_the_recorded_ones(tmp_path: Path) -> None:
    """Fetched and built anew, mini-CORE has the digest that stands in the hook, and 6,800 items."""
    fresh = load()
    reply = fresh.answer("prepare", {"cache": str(tmp_path), "settings": {}})
    if "error" in reply:
        pytest.skip(reply["error"])
    folder = Path(reply["held_out"]) / "tasks"

    assert fresh.files_digest(folder, bundle.files(folder)) == fresh.TASKS_SHA256
    assert sum(len(task.items) for task in bundle.read(folder)) == 6800


def test_the_hook_stands_alone() -> None:
    """No file beside it goes onto the path where a library is looked for."""
    assert str(HOOK.parent) not in sys.path
