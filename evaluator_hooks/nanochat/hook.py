"""NanoChat-D12: the trusted side. Data, tasks, sizes and the metric; nothing a trial wrote is imported or unpickled.

Run as `python -I hook.py VERB` with one JSON request on stdin and one JSON reply on stdout:

    prepare    mini: fetch three texts, hold out every 10th document, make mini-CORE's tasks from it;
               full: check what lies at the operator's path
    preflight  do the recipe's files parse, and does the code alone fit?
    measure    the artefact's bytes: compressed code plus the artefact's files as written, and their names
    score      mini_core or core, and bits per byte, from logits that a sandboxed process sends token by token

Beside it: corpus.py (the texts), builder.py (the tasks of mini-CORE), bundle.py (tasks on disk), provided.py (what a
person provides at full scale), tokens.py (the artefact's merges), core.py (the runner, and why it can't be lied to).
"""

import ast
import contextlib
import errno
import fcntl
import functools
import hashlib
import importlib.util
import io
import json
import math
import os
import shlex
import shutil
import stat
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any

if __name__ == "__main__":
    sys.dont_write_bytecode = True  # the hook's folder stays as it was exported


@functools.cache
def beside(name: str) -> ModuleType:
    """A file of this folder as a module. `python -I` keeps the folder off sys.path, and it stays off: a file here can't
    stand in for a library."""
    spec = importlib.util.spec_from_file_location(
        f"nanochat_hook_{name}", Path(__file__).resolve().parent / f"{name}.py"
    )
    if spec is None or spec.loader is None:
        raise ImportError(name)
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # dataclasses look their module up
    spec.loader.exec_module(made)
    return made


FILES = ("train.py", "predict.py")
MERGES = "tokenizer.json"
MAX_FILES = 16
MAX_BYTES = 4 << 30
MADE = "mini-core-1"  # the folder of what prepare makes; a change of splits or tasks is another name and digest
TASKS_SHA256 = "2ae721a0213b40ababab8f871841942a212d6ff7fbb496ffe775a44aa62afdae"
WINDOW, WINDOWS = 96, 128  # of held-out text, for bits per byte
# A smoke run: of each task so many items that the longest prompts, with ten shots, are among them; and of the text.
SMOKE_ITEMS, SMOKE_CHARACTERS = 12, 20_000


class Invalid(Exception):
    """The artefact can't be what an honest trial makes."""


# -----------------------------------------------------------------------------
# prepare: the data


def prepare(request: dict[str, Any]) -> dict[str, Any]:
    """Both folders and a digest. At mini scale they are made once, under the cache."""
    settings = request.get("settings", {})
    if settings.get("scale", "mini") == "full":
        checked: dict[str, Any] = beside("provided").check(settings, beside("bundle"))
        return checked
    if settings.get("data"):
        full = "gitresearch init --recipe nanochat --scale full"
        raise beside("corpus").Unavailable(f"the small scale reads no text of one's own; try: {full}")
    cache = Path(request["cache"])
    done = cache / MADE
    try:
        if not done.is_dir():
            _make_once(cache, done)
    except OSError as error:
        look = "df -h" if error.errno == errno.ENOSPC else "ls -ld"
        told = f"can't write the text to {cache}: {error.strerror}"
        raise beside("corpus").Unavailable(f"{told}; try: {look} {shlex.quote(str(cache))}") from None
    return {"train": str(done / "train"), "held_out": str(done / "held_out"), "digest": f"sha256:{digest(done)}"}


def _make_once(cache: Path, done: Path) -> None:
    """Staged in a temporary folder and renamed into place. Under the lock, what is staged is of callers that died."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{MADE}.lock").open("w") as lock:
        _alone(lock)
        if done.is_dir():  # another process has made it meanwhile
            return
        for left in cache.glob(f"staging-{MADE}-*"):
            shutil.rmtree(left, ignore_errors=True)
        staged = Path(tempfile.mkdtemp(prefix=f"staging-{MADE}-", dir=cache))
        try:
            make(cache, staged)
            (staged / "out").rename(done)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _alone(lock: IO[str]) -> None:
    """Wait for others who make the same data ready; said where there are any: one may outlive the run that asked it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another process that makes the same data ready", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def make(cache: Path, staged: Path) -> None:
    """The splits and mini-CORE's tasks, in `out` below the staging folder."""
    corpus, builder, bundle = beside("corpus"), beside("builder"), beside("bundle")
    splits = {source: corpus.split(texts) for source, texts in corpus.documents(cache, staged).items()}
    out = staged / "out"
    for i, name in enumerate(("train", "held_out")):
        (out / name).mkdir(parents=True)
        for source, parts in splits.items():
            (out / name / f"{source}.txt").write_text("\n\n".join(parts[i]), "utf-8")
    texts = builder.Texts({source: parts[1] for source, parts in splits.items()},
                          {source: parts[0] for source, parts in splits.items()})  # fmt: skip
    print("making mini-CORE's nine tasks of the held-out text", file=sys.stderr, flush=True)
    tasks = [(kind.label, kind.type, kind.chance, builder.build(texts, kind)) for kind in builder.KINDS]
    bundle.write(out / "held_out" / "tasks", tasks)
    made = files_digest(out / "held_out" / "tasks", bundle.files(out / "held_out" / "tasks"))
    if TASKS_SHA256 and made != TASKS_SHA256:
        raise RuntimeError(f"the tasks came out as {made}, not as {TASKS_SHA256}: another Python made other draws")
    (out / "digest").write_text(files_digest(out, data_files(out)), "utf-8")


def data_files(made: Path) -> list[Path]:
    return sorted(path for name in ("train", "held_out") for path in (made / name).rglob("*") if path.is_file())


def digest(made: Path) -> str:
    """What identifies the data, of the bytes that lie there now; Unavailable where they have changed since."""
    found = ""
    with contextlib.suppress(OSError):
        found = files_digest(made, data_files(made))
    if not found or not (made / "digest").is_file() or found != (made / "digest").read_text("utf-8"):
        raise beside("corpus").Unavailable(
            f"the text in the cache has been changed; try: rm -r {shlex.quote(str(made))}"
        )
    return found


def files_digest(top: Path, paths: list[Path]) -> str:
    """sha256 over the relative names and bytes of files."""
    whole = hashlib.sha256()
    for path in paths:
        data = path.read_bytes()
        whole.update(f"{path.relative_to(top).as_posix()}\0{len(data)}\0".encode() + data)
    return whole.hexdigest()


# -----------------------------------------------------------------------------
# preflight and measure: the recipe's files and the artefact


def preflight(request: dict[str, Any]) -> dict[str, Any]:
    """Does every file parse, are the two entry points there, and does the code alone fit under the cap?"""
    tree = Path(request["tree"])
    for name in FILES:
        if not (tree / name).is_file():
            return _doomed("preflight_crash", "MissingFile", [f"{name} is not in the recipe"])
    for path in tree_files(tree):
        if path.suffix == ".py" and (wrong := _parse_error(path)):
            label, line, what = wrong
            return _doomed("preflight_crash", label, [f"{path.relative_to(tree).as_posix()}:{line}: {what}"])
    size, cap = code_bytes(tree), request["limits"]["artefact_bytes"]
    if cap and size > cap:
        return _doomed("size_blocked", "code_too_large", [f"the code alone takes {size} of {cap} bytes"])
    return {"ok": True, "smoke": True, "code_bytes": size}


def _parse_error(path: Path) -> tuple[str, int, str] | None:
    """Why a file is no Python: label, line and words. Nesting too deep for the parser is the file's fault too."""
    try:
        with warnings.catch_warnings(action="ignore"):  # an odd escape in a string is no matter of ours
            ast.parse(path.read_bytes(), filename=path.name)
    except SyntaxError as error:
        return type(error).__name__, error.lineno or 0, error.msg
    except (ValueError, RecursionError, MemoryError) as error:
        return type(error).__name__, 0, str(error) or "too deeply nested to parse"
    return None


def _doomed(status: str, label: str, lines: list[str]) -> dict[str, Any]:
    return {"ok": False, "status": status, "label": label, "lines": lines}


def tree_files(tree: Path) -> list[Path]:
    """Every ordinary file of the tree, in the order of its path. Links are not followed."""
    found = (Path(folder) / name for folder, _, names in os.walk(tree) for name in names)
    return sorted(path for path in found if stat.S_ISREG(path.lstat().st_mode))


def code_bytes(tree: Path) -> int:
    """The recipe's files under one zlib stream, in path order: weights or tables could stand in a file of any name."""
    packer = zlib.compressobj(9)
    size = 0
    for path in tree_files(tree):
        name = path.relative_to(tree).as_posix()
        size += len(packer.compress(name.encode("utf-8", "surrogateescape") + b"\0" + path.read_bytes()))
    return size + len(packer.flush())


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Compressed code plus the artefact's files as written, and their names."""
    with _folder(request["artefact"]) as folder:
        sizes = _artefact_sizes(folder)
    names = sum(len(os.fsencode(name)) for name in sizes)  # a name can carry bytes too
    parts = {"code": code_bytes(Path(request["tree"])), "artefact": sum(sizes.values()), "names": names}
    return {"artefact_bytes": sum(parts.values()), "parts": parts}


@contextlib.contextmanager
def _folder(path: str) -> Iterator[int]:
    """A handle on the artefact's folder, so that what its names lead to can't be moved meanwhile."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise Invalid(f"there is no artefact: {error.strerror}") from None
    try:
        yield folder
    finally:
        os.close(folder)


def _artefact_sizes(folder: int) -> dict[str, int]:
    """Bytes of each file as its name promises them (a hole counts too). Invalid where one is no ordinary file."""
    names = sorted(os.listdir(folder))
    if not 1 <= len(names) <= MAX_FILES:
        raise Invalid(f"the artefact has {len(names)} files; an artefact is 1 to {MAX_FILES} files in one folder")
    sizes = {}
    for name in names:
        with _artefact_file(folder, name) as handle:
            sizes[name] = os.fstat(handle).st_size
    return sizes


@contextlib.contextmanager
def _artefact_file(folder: int, name: str) -> Iterator[int]:
    """A handle on one file, opened without following links or waiting on pipes."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise Invalid(f"the artefact's {name[:80]!a} is no ordinary file: {error.strerror}") from None
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            raise Invalid(f"the artefact's {name[:80]!a} is no ordinary file of its own")
        if facts.st_size > MAX_BYTES:
            raise Invalid(f"the artefact's {name[:80]!a} is larger than {MAX_BYTES} bytes")
        yield handle
    finally:
        os.close(handle)


# -----------------------------------------------------------------------------
# score: the metric


def score(request: dict[str, Any]) -> dict[str, Any]:
    """The metric, each task's part in it, and bits per byte of held-out text; in a smoke run of little of it all."""
    core, bundle, tokens = beside("core"), beside("bundle"), beside("tokens")
    settings, held_out = request["settings"], Path(request["held_out"])
    full = settings.get("scale", "mini") == "full"
    # Nothing is buffered on the way out: at closing, a buffer would be written to a predictor that is gone.
    with (
        os.fdopen(request["to_trial"], "wb", buffering=0) as to_trial,
        os.fdopen(request["from_trial"], "rb") as source,
    ):
        with _folder(request["artefact"]) as folder, _artefact_file(folder, MERGES) as handle:
            tokenizer = tokens.Tokens(os.pread(handle, tokens.MAX_JSON + 1, 0))  # the one byte more is refused
        tasks = bundle.read(held_out / ("eval_bundle" if full else "tasks"))
        text, most = held_out_text(held_out), int(settings.get("items_per_task", 0))
        twice = int(settings.get("asked_twice", 48))
        if request.get("smoke"):
            text, most, twice = text[:SMOKE_CHARACTERS], SMOKE_ITEMS, min(twice, SMOKE_ITEMS)
        asked = core.questions(tasks, tokenizer.encode, most)
        asked += core.windows(tokenizer.encode([text])[0], WINDOW, WINDOWS)
        talk = core.Talk(to_trial, source, tokenizer.vocab, settings.get("logits", "float32"))
        rows, tolerance = int(settings.get("rows", 384)), float(settings.get("tolerance", 0.01))
        answers = core.interrogate(asked, talk, rows, twice, tolerance)
    found = dict(core.metrics(tasks, core.accuracies(asked, answers), "core" if full else "mini_core"))
    return {"metrics": found | bits_per_byte(asked, answers, tokenizer) | {"items": len(asked)}}


def held_out_text(held_out: Path) -> str:
    """All held-out text, one source after another."""
    return "\n\n".join(path.read_text("utf-8") for path in sorted(held_out.glob("*.txt")))


def bits_per_byte(asked: list[Any], answers: list[Any], tokenizer: Any) -> dict[str, float]:
    """Over the windows of held-out text."""
    told = [(question.rows[0], answer[0]) for question, answer in zip(asked, answers, strict=True) if not question.task]
    size = sum(len(tokenizer.bytes[token]) for row, _ in told for token in row.continuation)
    nats = math.fsum(cost for _, answer in told for cost in answer.nats)
    return {"val_bpb": nats / math.log(2) / size} if size else {}


# -----------------------------------------------------------------------------
# the JSON door


VERBS = {"prepare": prepare, "preflight": preflight, "measure": measure, "score": score}


def answer(verb: str, request: dict[str, Any]) -> dict[str, Any]:
    """The reply; what a trial causes becomes a reply, what we cause stays an exception."""
    try:
        return VERBS[verb](request)
    except Invalid as error:
        return {"invalid": str(error)}
    except (beside("corpus").Unavailable, beside("provided").Unavailable) as error:
        return {"error": str(error)}
    except (beside("core").Invalid, beside("tokens").Invalid) as error:
        return {"invalid": str(error)}
    except beside("core").Crashed as error:
        return {"crashed": str(error)}


@contextlib.contextmanager
def only_the_reply_on_stdout() -> Iterator[io.TextIOWrapper]:
    """Libraries that print must not garble the reply: their stdout is stderr."""
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with reply:
        yield reply


if __name__ == "__main__":
    with only_the_reply_on_stdout() as out:
        json.dump(answer(sys.argv[1], json.load(sys.stdin)), out, allow_nan=False)
