"""A bundle of tasks on disk, in the layout of the public evaluation bundle, strictly read.

    core.yaml            icl_tasks: label, dataset_uri, num_fewshot, icl_task_type, continuation_delimiter
    eval_meta_data.csv   "Eval Task" and "Random baseline" (percent), one line a task
    eval_data/           one JSON object a line: query, choices, gold | context_options, continuation, gold |
                         context, continuation

mini-CORE is written in the same layout, so one reader and one runner serve both. The table's YAML is a list of flat
mappings; just that is read, so no YAML library is needed.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE, BASELINES, DATA = "core.yaml", "eval_meta_data.csv", "eval_data"
TYPES = ("multiple_choice", "schema", "language_modeling")
MAX_LINE = 1 << 20
Item = dict[str, Any]


class BadBundle(Exception):
    """A file of the bundle is missing or not what it should be; the message names it."""


@dataclass(frozen=True)
class Task:
    """One task: how its items are rendered and judged. `chance` is an accuracy from 0 to 1."""

    label: str
    type: str
    shots: int
    delimiter: str
    chance: float
    items: tuple[Item, ...]


def read(folder: Path) -> list[Task]:
    """All tasks of a bundle. BadBundle says what is wrong with it."""
    chances = dict(_chances(folder / BASELINES))
    tasks = []
    for row in table(_text(folder / TABLE)):
        label = str(row.get("label", ""))
        if label not in chances:
            raise BadBundle(f"{BASELINES} has no random baseline for {label!r}")
        kind, path = str(row.get("icl_task_type")), folder / DATA / str(row.get("dataset_uri", ""))
        if kind not in TYPES:
            raise BadBundle(f"{TABLE}: {label} is of type {kind!r}, which is none of {', '.join(TYPES)}")
        if not path.resolve().is_relative_to((folder / DATA).resolve()):
            raise BadBundle(f"{TABLE}: {label} names a file outside {DATA}")
        items = tuple(_items(path, kind))
        shots = _shots(label, row.get("num_fewshot"), len(items))
        tasks.append(Task(label, kind, shots, str(row.get("continuation_delimiter", " ")), chances[label], items))
    if not tasks or len({task.label for task in tasks}) != len(tasks):
        raise BadBundle(f"{TABLE} lists no task, or one twice")
    return tasks


def write(folder: Path, tasks: Iterable[tuple[str, str, float, list[Item]]]) -> None:
    """A bundle of tasks without examples: label, type, chance in percent, items."""
    (folder / DATA).mkdir(parents=True)
    lines, rows = ["icl_tasks:"], ["Eval Task,Random baseline"]
    for label, kind, chance, items in tasks:
        lines += ["-", f"  label: {label}", f"  dataset_uri: {label}.jsonl", "  num_fewshot: [0]"]
        lines += [f"  icl_task_type: {kind}"]
        rows.append(f"{label},{chance!r}")
        text = "".join(json.dumps(item, ensure_ascii=False, sort_keys=True) + "\n" for item in items)
        (folder / DATA / f"{label}.jsonl").write_text(text, "utf-8")
    (folder / TABLE).write_text("\n".join(lines) + "\n", "utf-8")
    (folder / BASELINES).write_text("\n".join(rows) + "\n", "utf-8")


def files(folder: Path) -> list[Path]:
    """The bundle's files, in an order of their own: what its digest is over."""
    return [folder / TABLE, folder / BASELINES, *sorted(path for path in (folder / DATA).rglob("*") if path.is_file())]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise BadBundle(f"{path.name} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadBundle(f"{path.name} is no UTF-8 text") from None


def _chances(path: Path) -> Iterator[tuple[str, float]]:
    for row in csv.DictReader(_text(path).splitlines()):
        try:
            chance = float(row["Random baseline"]) / 100
            label = row["Eval Task"].strip()
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadBundle(f'{path.name} needs the columns "Eval Task" and "Random baseline", in percent') from None
        if not 0.0 <= chance < 1.0:
            raise BadBundle(f"{path.name}: the random baseline of {label} is not 0 to 100 percent")
        yield label, chance


def table(text: str) -> list[dict[str, Any]]:
    """The list under `icl_tasks:` as flat mappings. BadBundle where a line is of another form."""
    tasks: list[dict[str, Any]] = []
    key, began = "", False
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not began:
            began = line.rstrip() == "icl_tasks:"
            if not began:
                raise BadBundle(f"{TABLE}:{number}: the first line must be icl_tasks:")
            continue
        item = re.fullmatch(r"\s*-\s*(.*)", line)
        if item and key and not re.match(r"\w+:", item[1]) and item[1]:
            tasks[-1].setdefault(key, []).append(_value(item[1], number))  # a list written below its key
            continue
        if item:
            tasks.append({})
        pair = re.fullmatch(r"\s*(\w+):\s*(.*)", item[1] if item else line)
        if pair is None and item and not item[1]:
            continue
        if pair is None or not tasks or pair[1] in tasks[-1]:
            raise BadBundle(f"{TABLE}:{number}: this is no 'key: value' of a task, or a key stands twice")
        key = "" if pair[2] else pair[1]
        if pair[2]:
            tasks[-1][pair[1]] = _value(pair[2], number)
    return tasks


def _value(text: str, number: int) -> Any:
    """A scalar, or a list in brackets."""
    text = text.strip()
    try:
        if text[:1] in ('"', "["):
            return json.loads(text)
        if text[:1] == "'":
            return re.fullmatch(r"'((?:[^']|'')*)'", text)[1].replace("''", "'")  # type: ignore[index]
    except (ValueError, TypeError):
        raise BadBundle(f"{TABLE}:{number}: the value can't be read") from None
    plain = re.sub(r"\s+#.*", "", text)
    return int(plain) if re.fullmatch(r"-?\d{1,9}", plain) else plain


def _shots(label: str, said: Any, items: int) -> int:
    """How many examples stand before an item: the first that is listed, as the public runner takes it."""
    shots = said[0] if isinstance(said, list) and said else said
    if isinstance(shots, bool) or not isinstance(shots, int) or not 0 <= shots < items:
        raise BadBundle(f"{TABLE}: num_fewshot of {label} must be a number below its {items} items")
    return shots


def _items(path: Path, kind: str) -> Iterator[Item]:
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line) if len(line) <= MAX_LINE else None
        except (ValueError, RecursionError):
            item = None
        if not isinstance(item, dict) or not _is_item(item, kind):
            raise BadBundle(f"{path.name}:{number} is no item of a {kind} task, or the file is cut off")
        yield item


def _is_item(item: Item, kind: str) -> bool:
    """Whether an item has what its type needs."""
    if kind == "language_modeling":
        return all(isinstance(item.get(name), str) for name in ("context", "continuation"))
    options, text = ("choices", "query") if kind == "multiple_choice" else ("context_options", "continuation")
    found, gold = item.get(options), item.get("gold")
    listed = isinstance(found, list) and 2 <= len(found) <= 64 and all(isinstance(option, str) for option in found)
    placed = isinstance(gold, int) and not isinstance(gold, bool) and listed and 0 <= gold < len(found or [])
    return placed and isinstance(item.get(text), str)
