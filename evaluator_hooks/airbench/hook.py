"""Airbench: the trusted side. Data, sizes, right answers counted; nothing a trial wrote is imported or unpickled.

Run as `python -I hook.py VERB` with one JSON request on stdin and one JSON reply on stdout:

    prepare    make the training images and the test images ready in a cache outside the repository
    preflight  do the recipe's files parse and fit?
    measure    the artefact's bytes: compressed code plus the artefact's files as written, and their names
    score      how many test images a sandboxed process names the right class of

The predictor is sent the test images, in an order drawn from the run's seed so that places tell nothing, and sends back
a class for each. Labels stay here, and what is right is counted in whole numbers: a gate of 96 % on 10,000 images is
9,600, where a mean of 32-bit floats makes 0.95999998 of it. How long that took is the evaluator's to measure.

Both splits are kept as numpy files, whatever the data was: images.npy (N, C, H, W) and labels.npy (N,), of bytes.
Settings: `dataset` (fashion-mnist or cifar-10); `data`, the folder with its files (else GITRESEARCH_DATA_AIRBENCH, else
Debian's package); `digest`, which they must have; `records` in a CIFAR file.
"""

import ast
import contextlib
import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

PACKAGE = "dataset-fashion-mnist"  # Debian's; the files lie in it as Zalando published them
INSIDE = "usr/share/datasets/fashion-mnist"
VARIABLE = "GITRESEARCH_DATA_AIRBENCH"
ELSEWHERE = f"try: export {VARIABLE}=DIR"
BY_HAND = (
    "try: git clone https://github.com/zalandoresearch/fashion-mnist && "
    f"export {VARIABLE}=$PWD/fashion-mnist/data/fashion"
)
SPLITS = ("train", "held_out")
IDX = {"train": "train", "held_out": "t10k"}
CIFAR = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "held_out": ["test_batch.bin"]}
CIFAR_SHAPE = (3, 32, 32)
CLASSES = 10
KINDS = ("images", "labels")
FETCH_SECONDS = 500.0

FILES = ("train.py", "predict.py")
SMOKE_IMAGES = 32  # that a smoke run asks about
MAX_FILES = 16
MAX_BYTES = 1 << 30


class Invalid(Exception):
    """The artefact or the predictor's answer can't be what an honest trial makes."""


class Crashed(Exception):
    """The predictor stopped, or named a class that there is none of."""


class Unavailable(Exception):
    """What the machine lacks, in one sentence that ends with the command to type."""


# -----------------------------------------------------------------------------
# prepare: the data


def prepare(request: dict[str, Any]) -> dict[str, Any]:
    """Both splits under the cache, in a folder named by their digest: staged beside it and renamed into place."""
    settings, cache = request["settings"], Path(request["cache"])
    wanted = settings.get("digest", "")
    if wanted and _folder_of(cache, wanted).is_dir():
        return _reply(_folder_of(cache, wanted), wanted)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "airbench.lock").open("w") as lock:
            _alone(lock)
            for left in cache.glob("staging-airbench-*"):  # under the lock: of callers that died
                shutil.rmtree(left, ignore_errors=True)
            return _make(settings, cache, wanted)
    except OSError as error:
        look = "df -h" if error.errno == errno.ENOSPC else "ls -ld"
        told = f"can't write the images to {cache}: {error.strerror}"
        raise Unavailable(f"{told}; try: {look} {shlex.quote(str(cache))}") from None


def _alone(lock: IO[str]) -> None:
    """Wait for others who make the same data ready; said where there are any: one may outlive the run that asked it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another process that makes the same data ready", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _folder_of(cache: Path, digest: str) -> Path:
    return cache / f"airbench-{digest.removeprefix('sha256:')[:16]}"


def _make(settings: dict[str, Any], cache: Path, wanted: str) -> dict[str, Any]:
    named = settings.get("data") or os.environ.get(VARIABLE, "")
    source = Path(named) if named else cache / PACKAGE
    name = settings.get("dataset", "fashion-mnist")
    if named and not source.is_dir():
        raise Unavailable(f"there is no folder {named}; {ELSEWHERE}")
    if not named and name != "fashion-mnist":
        raise Unavailable(
            f"CIFAR-10 comes in no package: get its binary version (data_batch_1.bin to test_batch.bin) and name its "
            f"folder; {ELSEWHERE}"
        )
    if not source.is_dir():
        _fetch(cache, source)
    try:
        splits = _read(name, source, settings)
        digest = _digest(splits)
        if wanted and digest != wanted:
            raise Unavailable(f"the images in {source} have {digest}, and this study is about {wanted}; {ELSEWHERE}")
    except Unavailable as error:
        if named:
            raise
        raise Unavailable(f"{str(error).partition('; try: ')[0]}; try: rm -r {shlex.quote(str(source))}") from None
    if not _folder_of(cache, digest).is_dir():
        _write(splits, cache, _folder_of(cache, digest))
    return _reply(_folder_of(cache, digest), digest)


def _reply(done: Path, digest: str) -> dict[str, Any]:
    """The folders, checked by the bytes that lie there now."""
    import numpy as np  # noqa: PLC0415  (preflight and measure don't pay for it)

    try:
        found = _digest({split: tuple(np.load(done / split / f"{kind}.npy") for kind in KINDS) for split in SPLITS})
    except (OSError, ValueError, EOFError):
        found = ""
    if found != digest:
        raise Unavailable(f"the images in the cache have been changed; try: rm -r {shlex.quote(str(done))}")
    return {"train": str(done / "train"), "held_out": str(done / "held_out"), "digest": digest}


def _digest(splits: dict[str, Any]) -> str:
    """What identifies the data: shapes and bytes of both splits, however they were packed."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for array in splits[split]:
            digest.update(f"{split} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
    return f"sha256:{digest.hexdigest()}"


def _write(splits: dict[str, Any], cache: Path, done: Path) -> None:
    import numpy as np  # noqa: PLC0415

    with _staged(cache) as staged:
        for split in SPLITS:
            (staged / "out" / split).mkdir(parents=True)
            for kind, array in zip(KINDS, splits[split], strict=True):
                np.save(staged / "out" / split / f"{kind}.npy", array)
        (staged / "out").rename(done)


@contextlib.contextmanager
def _staged(cache: Path) -> Iterator[Path]:
    staged = Path(tempfile.mkdtemp(prefix="staging-airbench-", dir=cache))
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _fetch(cache: Path, done: Path) -> None:
    """Debian's package, unpacked. Nothing is installed and none of its scripts runs."""
    with _staged(cache) as staged:
        print(f"fetching the Debian package {PACKAGE} (Fashion-MNIST, 31 MB, MIT licence)", file=sys.stderr, flush=True)
        _do(["apt-get", "download", PACKAGE], staged)
        found = sorted(staged.glob("*.deb"))
        if not found:
            raise Unavailable(f"apt-get left no package; {BY_HAND}")
        print(f"unpacking {found[0].name}, {found[0].stat().st_size:,} bytes", file=sys.stderr, flush=True)
        _do(["dpkg-deb", "-x", found[0].name, "out"], staged)
        if not (staged / "out" / INSIDE).is_dir():
            raise Unavailable(f"the package {PACKAGE} holds no {INSIDE}; {BY_HAND}")
        (staged / "out" / INSIDE).rename(done)


def _do(command: list[str], where: Path) -> None:
    try:
        # Its own progress is ours: to stderr, where ours goes.
        done = subprocess.run(
            command, cwd=where, stdout=sys.stderr, stderr=subprocess.PIPE, check=False, timeout=FETCH_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"can't run {command[0]}: {type(error).__name__}; {BY_HAND}") from None
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"{command[0]} failed"]
        raise Unavailable(f"can't fetch the images: {last[0][:200]}; {BY_HAND}")


def _read(name: str, source: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Images and labels of both splits, strictly read."""
    if name == "fashion-mnist":
        splits = {split: _read_idx(source, stem) for split, stem in IDX.items()}
    elif name == "cifar-10":
        records = int(settings.get("records", 10_000))
        splits = {split: _read_cifar([source / file for file in files], records) for split, files in CIFAR.items()}
    else:
        raise Unavailable(f"there is no dataset {name!r}; try: gitresearch init --recipe airbench")
    for images, labels in splits.values():
        if len(images) != len(labels) or not len(labels) or labels.max() >= CLASSES:
            raise Unavailable(f"the labels in {source} don't go with the images; {ELSEWHERE}")
    return splits


def _bytes(path: Path) -> bytes:
    """A file's bytes, or those of its gzip."""
    try:
        packed = path.with_name(f"{path.name}.gz")
        return gzip.decompress(packed.read_bytes()) if packed.is_file() else path.read_bytes()
    except FileNotFoundError:
        raise Unavailable(f"{path.name} is missing in {path.parent}; {ELSEWHERE}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise Unavailable(f"{path.name} can't be read: {error}; try: ls -l {shlex.quote(str(path.parent))}") from None


def _read_idx(source: Path, stem: str) -> tuple[Any, Any]:
    """LeCun's IDX: two zero bytes, type 8 (bytes), how many axes, their big-endian lengths, then the bytes."""
    import numpy as np  # noqa: PLC0415

    found = []
    for file, axes in ((f"{stem}-images-idx3-ubyte", 3), (f"{stem}-labels-idx1-ubyte", 1)):
        data = _bytes(source / file)
        begin = 4 + 4 * axes
        shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, begin, 4))
        wants = begin + int(np.prod(shape, dtype=np.int64))
        if data[:4] != bytes([0, 0, 8, axes]) or len(data) != wants:
            raise Unavailable(
                f"{file} is no whole IDX file of {axes} axes: {len(data)} bytes; try: ls -l {shlex.quote(str(source))}"
            )
        found.append(np.frombuffer(data, dtype=np.uint8, offset=begin).reshape(shape))
    return found[0][:, None], found[1]


def _read_cifar(paths: list[Path], records: int) -> tuple[Any, Any]:
    """CIFAR-10's binary version: records of a label and 3·32·32 pixels, channel by channel."""
    import numpy as np  # noqa: PLC0415

    size = 1 + CIFAR_SHAPE[0] * CIFAR_SHAPE[1] * CIFAR_SHAPE[2]
    parts = []
    for path in paths:
        data = _bytes(path)
        if len(data) != records * size:
            raise Unavailable(
                f"{path.name} has {len(data)} bytes, and {records} records of {size} were expected; {ELSEWHERE}"
            )
        parts.append(np.frombuffer(data, dtype=np.uint8).reshape(records, size))
    table = np.concatenate(parts)
    return np.ascontiguousarray(table[:, 1:]).reshape(-1, *CIFAR_SHAPE), table[:, 0].copy()


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
    """The recipe's files under one zlib stream, in path order, as they would be shipped.

    All of them and not only the Python: weights or tables could stand in a file of any name.
    """
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
# score: right answers


def score(request: dict[str, Any]) -> dict[str, Any]:
    """How many test images, in a smoke run of a few, the predictor at the other end of the pipes names the right class
    of."""
    import numpy as np  # noqa: PLC0415

    # Nothing is buffered on the way out: at closing, a buffer would be written to a predictor that is gone.
    with (
        os.fdopen(request["to_trial"], "wb", buffering=0) as to_trial,
        os.fdopen(request["from_trial"], "rb") as source,
    ):
        held_out = Path(request["held_out"])
        images, labels = (np.load(held_out / f"{kind}.npy") for kind in KINDS)
        order = np.random.default_rng(request["seed"]).permutation(len(labels))
        if request.get("smoke"):
            order = order[:SMOKE_IMAGES]
        header = {"images": len(order), "shape": images.shape[1:], "classes": CLASSES}
        _send(to_trial, json.dumps(header).encode() + b"\n")
        _send(to_trial, images[order].tobytes())
        to_trial.close()
        named = np.frombuffer(_receive(source, 4 * len(order)), dtype="<i4")
        if source.read(1):
            raise Invalid("the predictor sent more than was asked for")
    if ((named < 0) | (named >= CLASSES)).any():
        raise Crashed(f"the predictor named a class outside 0 to {CLASSES - 1}")
    correct = int((named == labels[order]).sum())
    return {"metrics": {"correct": correct, "images": len(order), "accuracy": correct / len(order)}}


def _send(to_trial: BinaryIO, data: bytes) -> None:
    try:
        while data:
            data = data[to_trial.write(data) :]
    except BrokenPipeError:
        raise Crashed("the predictor stopped reading") from None


def _receive(from_trial: BinaryIO, size: int) -> bytes:
    data = from_trial.read(size)
    if len(data) != size:
        raise Crashed(f"the predictor ended after {len(data)} of {size} bytes of its predictions")
    return data


# -----------------------------------------------------------------------------
# the door


VERBS = {"prepare": prepare, "preflight": preflight, "measure": measure, "score": score}


def answer(verb: str, request: dict[str, Any]) -> dict[str, Any]:
    """The reply; what a trial causes becomes a reply, what we cause stays an exception."""
    try:
        return VERBS[verb](request)
    except Invalid as error:
        return {"invalid": str(error)}
    except Crashed as error:
        return {"crashed": str(error)}
    except Unavailable as error:
        return {"error": str(error)}


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
