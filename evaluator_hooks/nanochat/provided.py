"""What a person provides at full scale, checked before a trial is spent: text to train on, text and tasks held out.

DIR/train/*.parquet | *.jsonl | *.txt    documents: a column or a key "text", or paragraphs between blank lines
DIR/held_out/val.txt                     text for bits per byte
DIR/held_out/eval_bundle/                the public bundle: core.yaml, eval_meta_data.csv, eval_data/
"""

import hashlib
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "GITRESEARCH_DATA_NANOCHAT"
TASKS = 22
LEAST_TEXT = 100_000  # bytes of val.txt
ENDS = 1 << 20  # bytes of each end of a training file that go into the digest; all of them would take minutes


class Unavailable(Exception):
    """What the operator's data lacks, in one sentence that ends with the command to type."""


def check(settings: dict[str, Any], bundle: ModuleType) -> dict[str, Any]:
    """Both folders and what identifies them. `digest` in the settings holds the data to one that is known."""
    named = settings.get("data") or os.environ.get(VARIABLE, "")
    if not named:
        raise Unavailable(f"no folder of data is named; try: export {VARIABLE}=DIR")
    data = Path(str(named)).absolute()
    try:
        found = _digest(data, bundle)
    except OSError as error:
        raise Unavailable(f"{error.filename} can't be read: {error.strerror}; {_look(data)}") from None
    if settings.get("digest", found) != found:
        raise Unavailable(f"{data} holds {found}, not the data that study.toml names; {_look(data)}")
    return {"train": str(data / "train"), "held_out": str(data / "held_out"), "digest": found}


def _digest(data: Path, bundle: ModuleType) -> str:
    """What identifies both folders, every file of them checked on the way."""
    whole = hashlib.sha256()
    for path in _training_files(data / "train"):
        whole.update(f"{path.name} {path.stat().st_size}\0".encode())
        for part in _ends(path):
            whole.update(part)
    held_out = data / "held_out"
    for path in _held_out_files(held_out, bundle):
        whole.update(f"{path.relative_to(held_out).as_posix()}\0".encode() + path.read_bytes())
    return f"sha256:{whole.hexdigest()}"


def _look(path: Path) -> str:
    return f"try: ls -lR {shlex.quote(str(path))}"


def _training_files(folder: Path) -> list[Path]:
    """The files to train on, each of them whole as far as its ends show."""
    found = sorted(path for path in folder.glob("*") if path.suffix in (".parquet", ".jsonl", ".txt"))
    if not found:
        raise Unavailable(f"there is no .parquet, .jsonl or .txt file in {folder}; {_look(folder.parent)}")
    for path in found:
        head, tail = _ends(path)
        whole, form = bool(head.strip()), "text"
        if path.suffix == ".parquet":
            if importlib.util.find_spec("pyarrow") is None:
                raise Unavailable(
                    f"{path} takes pyarrow to read; try: {shlex.quote(sys.executable)} -m pip install pyarrow"
                )
            # The names of the columns stand at its end, as they are.
            whole = head[:4] == tail[-4:] == b"PAR1" and path.stat().st_size > 12 and b"text" in tail
            form = 'a parquet file with a column "text"'
        if path.suffix == ".jsonl":
            lines = head.split(b"\n")[0], tail.strip().split(b"\n")[-1]
            whole, form = all(map(_is_document, lines)), 'one object with a "text" a line'
        if not whole:
            raise Unavailable(f"{path} is not {form}, or is cut off; {_look(folder)}")
    return found


def _ends(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield file.read(ENDS)
        file.seek(-min(ENDS, path.stat().st_size), os.SEEK_END)
        yield file.read()


def _is_document(line: bytes) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return len(line) >= ENDS  # a document longer than what was read
    return isinstance(found, dict) and isinstance(found.get("text"), str)


def _held_out_files(folder: Path, bundle: ModuleType) -> list[Path]:
    """The held-out text and the bundle's files, every item of which is read."""
    text = folder / "val.txt"
    try:
        size = len(text.read_text("utf-8").encode())
    except (OSError, UnicodeDecodeError):
        size = 0
    if size < LEAST_TEXT:
        raise Unavailable(f"{text} is not {LEAST_TEXT:,} bytes of UTF-8 text; {_look(folder)}")
    try:
        tasks = bundle.read(folder / "eval_bundle")
    except bundle.BadBundle as error:
        raise Unavailable(f"the evaluation bundle in {folder}: {error}; {_look(folder / 'eval_bundle')}") from None
    if len(tasks) != TASKS:
        told = f"the evaluation bundle in {folder} has {len(tasks)} tasks, and CORE has {TASKS}"
        raise Unavailable(f"{told}; {_look(folder / 'eval_bundle')}")
    return [text, *bundle.files(folder / "eval_bundle")]
