"""The airbench hook: data that is whole or refused, answers counted in whole numbers, nothing taken on trust."""

import gzip
import importlib.util
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.recipes.airbench import idx

np = pytest.importorskip("numpy", reason="numpy is not installed: pip install 'gitresearch[recipes]'")
TOP = Path(__file__).resolve().parents[2]
RECIPE = TOP / "recipes/airbench"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The hook as a fresh module; no folder of the person's own is taken for data."""
    monkeypatch.delenv("GITRESEARCH_DATA_AIRBENCH", raising=False)
    spec = importlib.util.spec_from_file_location("airbench_hook", TOP / "evaluator_hooks/airbench/hook.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


# -----------------------------------------------------------------------------
# the data


def images(count: int, seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def labels(count: int) -> Any:
    return np.arange(count, dtype=np.uint8) % 10


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """30 and 20 made-up images as the four files of Fashion-MNIST; the images of one are not packed."""
    folder = tmp_path / "fashion"
    folder.mkdir()
    for stem, count in (("train", 30), ("t10k", 20)):
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images(count, count))))
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels(count))))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(images(20, 20)))
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    return folder


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """Six files of four records each, as CIFAR-10's binary version has them."""
    folder = tmp_path / "cifar"
    folder.mkdir()
    for i, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        pixels = np.random.default_rng(i).integers(0, 256, (4, 3072), dtype=np.uint8)
        (folder / name).write_bytes(np.concatenate([np.full((4, 1), i, np.uint8), pixels], 1).tobytes())
    return folder


def prepare(hook: ModuleType, cache: Path, **settings: object) -> dict[str, str]:
    reply = hook.answer("prepare", {"cache": str(cache), "settings": settings})
    assert isinstance(reply, dict)
    return reply


def left(cache: Path) -> list[str]:
    """What lies in a cache beside its lock."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_fashion_mnist_is_read_as_it_is(hook: ModuleType, fashion: Path, tmp_path: Path) -> None:
    """Packed or not, images and labels come out byte by byte, and the test images lie apart from what a trial sees."""
    reply = prepare(hook, tmp_path / "cache", data=str(fashion))
    train, held_out = Path(reply["train"]), Path(reply["held_out"])

    assert np.array_equal(np.load(train / "images.npy"), images(30, 30)[:, None])
    assert np.array_equal(np.load(train / "labels.npy"), labels(30))
    assert np.array_equal(np.load(held_out / "images.npy"), images(20, 20)[:, None])
    assert np.array_equal(np.load(held_out / "labels.npy"), labels(20))
    assert sorted(path.name for path in train.iterdir()) == ["images.npy", "labels.npy"]


def test_cifar_is_read_as_it_is(hook: ModuleType, cifar: Path, tmp_path: Path) -> None:
    """A record is a label and three planes of 32 × 32, five files train and one tests."""
    reply = prepare(hook, tmp_path / "cache", dataset="cifar-10", data=str(cifar), records=4)
    train = np.load(Path(reply["train"]) / "images.npy")
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3072), dtype=np.uint8)

    assert train.shape == (20, 3, 32, 32)
    assert np.array_equal(train[5], pixels[1].reshape(3, 32, 32))
    assert np.load(Path(reply["train"]) / "labels.npy").tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert np.load(Path(reply["held_out"]) / "labels.npy").tolist() == [5] * 4


def test_the_digest_is_of_the_images_and_not_of_their_packing(hook: ModuleType, fashion: Path, tmp_path: Path) -> None:
    """Packed otherwise the data is the same; one label changed makes it another."""
    first = prepare(hook, tmp_path / "a", data=str(fashion))["digest"]
    packed = fashion / "t10k-labels-idx1-ubyte.gz"
    data = gzip.decompress(packed.read_bytes())
    packed.unlink()
    packed.with_suffix("").write_bytes(data)

    assert prepare(hook, tmp_path / "b", data=str(fashion))["digest"] == first
    packed.with_suffix("").write_bytes(data[:-1] + b"\0")
    assert prepare(hook, tmp_path / "c", data=str(fashion))["digest"] != first
    assert "and this study is about" in prepare(hook, tmp_path / "d", data=str(fashion), digest=first)["error"]


def test_preparing_at_once_and_again_gives_one_folder(hook: ModuleType, fashion: Path, tmp_path: Path) -> None:
    """Callers that race find the same folder whole; one that knows the digest needs the published files no more."""
    cache = tmp_path / "cache"
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: prepare(hook, cache, data=str(fashion)), range(4)))
    (fashion / "train-images-idx3-ubyte.gz").unlink()

    assert replies == [prepare(hook, cache, data=str(fashion), digest=replies[0]["digest"])] * 4
    assert left(cache) == [Path(replies[0]["train"]).parent.name]


def test_what_a_killed_caller_left_is_swept(hook: ModuleType, fashion: Path, tmp_path: Path) -> None:
    """A half made folder is nobody's data, and a cache that can't be written to is said."""
    (tmp_path / "cache/staging-airbench-dead/out").mkdir(parents=True)
    reply = prepare(hook, tmp_path / "cache", data=str(fashion))

    assert left(tmp_path / "cache") == [Path(reply["train"]).parent.name]
    assert "; try: ls -ld" in prepare(hook, fashion / "t10k-images-idx3-ubyte", data=str(fashion))["error"]


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_changed_test_data_is_refused(hook: ModuleType, fashion: Path, tmp_path: Path, kind: str) -> None:
    """Test images or labels that somebody edited in the cache are found before anything is counted on them."""
    reply = prepare(hook, tmp_path / "cache", data=str(fashion))
    place = Path(reply["held_out"]) / f"{kind}.npy"
    np.save(place, np.zeros_like(np.load(place)))

    error = prepare(hook, tmp_path / "cache", data=str(fashion), digest=reply["digest"])["error"]
    assert "; try: rm -r" in error


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def other(path: Path) -> None:
    path.write_bytes(gzip.compress(idx(np.zeros((30, 28), np.uint8))))


def shorter(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))


def fewer(path: Path) -> None:
    path.write_bytes(gzip.compress(idx(images(29, 1))))


@pytest.mark.parametrize("spoil", [Path.unlink, cut, other, shorter, fewer])
def test_images_that_are_none_are_refused(
    hook: ModuleType, fashion: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """A file that is missing, cut, of other axes, shorter than it says, or without as many labels: one sentence and a
    command, and nothing is left in the cache."""
    spoil(fashion / "train-images-idx3-ubyte.gz")
    error = prepare(hook, tmp_path / "cache", data=str(fashion))["error"]

    assert "; try: " in error
    assert left(tmp_path / "cache") == []


def test_a_label_without_a_class_is_refused(hook: ModuleType, fashion: Path, tmp_path: Path) -> None:
    """Ten classes have ten labels."""
    (fashion / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels(30) + 1)))

    assert "don't go with the images" in prepare(hook, tmp_path / "cache", data=str(fashion))["error"]


def test_cifar_that_is_cut_is_refused(hook: ModuleType, cifar: Path, tmp_path: Path) -> None:
    """Also where a whole record is missing."""
    (cifar / "data_batch_3.bin").write_bytes((cifar / "data_batch_3.bin").read_bytes()[:-3073])
    reply = prepare(hook, tmp_path / "cache", dataset="cifar-10", data=str(cifar), records=4)

    assert reply["error"].startswith("data_batch_3.bin has 9219 bytes, and 4 records of 3073 were expected")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"dataset": "cifar-10"}, "CIFAR-10 comes in no package"),
        ({"dataset": "cifar-10", "data": "/nowhere"}, "there is no folder /nowhere"),
        ({"dataset": "imagenet", "data": "/"}, "there is no dataset 'imagenet'"),
    ],
)
def test_what_is_missing_is_said_with_what_to_type(
    hook: ModuleType, tmp_path: Path, settings: dict[str, object], told: str
) -> None:
    """Before a trial is spent: no data, no such folder, no such data."""
    error = prepare(hook, tmp_path / "cache", **settings)["error"]

    assert told in error
    assert "; try: " in error


def test_the_variable_names_the_folder(
    hook: ModuleType, fashion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the study names none; what the study or the command line names comes first."""
    monkeypatch.setenv("GITRESEARCH_DATA_AIRBENCH", str(fashion))

    assert "digest" in prepare(hook, tmp_path / "cache", data="")
    assert "no folder /nowhere" in prepare(hook, tmp_path / "cache", data="/nowhere")["error"]


@pytest.fixture
def debian(tmp_path: Path, fashion: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for apt-get and dpkg-deb, alone on the path, that give the made-up images."""
    programs = tmp_path / "bin"
    programs.mkdir()
    unpack = f'/bin/mkdir -p "$3/usr/share/datasets" && /bin/cp -r {fashion} "$3/usr/share/datasets/fashion-mnist"'
    for name, does in (("apt-get", 'echo "$0" "$@" >&2; echo deb > "$2.deb"'), ("dpkg-deb", unpack)):
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    return programs


def test_the_package_is_fetched_once(
    hook: ModuleType, debian: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is fetched and its licence are told; afterwards neither program is needed."""
    first = prepare(hook, tmp_path / "cache")
    told = capfd.readouterr().err
    (debian / "apt-get").unlink()

    assert "dataset-fashion-mnist" in told
    assert "MIT" in told
    assert prepare(hook, tmp_path / "cache") == first
    assert capfd.readouterr().err == ""


def test_a_fetched_file_that_was_damaged_is_to_be_removed(hook: ModuleType, debian: Path, tmp_path: Path) -> None:
    """Only what we fetched ourselves is named for removal."""
    prepare(hook, tmp_path / "cache")
    fetched = tmp_path / "cache/dataset-fashion-mnist"
    (fetched / "train-images-idx3-ubyte.gz").write_bytes(b"damaged")

    assert prepare(hook, tmp_path / "cache")["error"].endswith(f"; try: rm -r {fetched}")
    assert "; try: ls -l" in prepare(hook, tmp_path / "cache", data=str(fetched))["error"]


def test_fetched_images_of_another_digest_are_to_be_removed(hook: ModuleType, debian: Path, tmp_path: Path) -> None:
    """What we fetched ourselves is no folder that the operator could name better."""
    error = prepare(hook, tmp_path / "cache", digest="sha256:0")["error"]

    assert "and this study is about sha256:0" in error
    assert error.endswith(f"; try: rm -r {tmp_path / 'cache/dataset-fashion-mnist'}")


@pytest.mark.parametrize("does", [None, "echo 'E: Unable to locate package' >&2; exit 100", "exit 0"])
def test_without_the_package_the_reply_says_what_to_type(
    hook: ModuleType, debian: Path, tmp_path: Path, does: str | None
) -> None:
    """No apt-get, no network, an empty answer: a sentence, another way to get the data, and nothing half made."""
    (debian / "apt-get").unlink()
    if does is not None:
        (debian / "apt-get").write_text(f"#!/bin/sh\n{does}\n")
        (debian / "apt-get").chmod(0o755)
    error = prepare(hook, tmp_path / "cache")["error"]

    assert (
        "; try: git clone https://github.com/zalandoresearch/fashion-mnist && export GITRESEARCH_DATA_AIRBENCH="
        in error
    )
    assert left(tmp_path / "cache") == []


# -----------------------------------------------------------------------------
# the tree and the artefact


@pytest.mark.parametrize(
    ("name", "text", "status", "line"),
    [
        ("train.py", "def f(:\n", "preflight_crash", "train.py:1:"),
        ("predict.py", None, "preflight_crash", "predict.py is not"),
        ("deep.py", "x = " + "-" * 200_000 + "1", "preflight_crash", "deep.py:"),
        ("table.bin", "x", "size_blocked", "the code alone"),
    ],
)
def test_preflight_finds_what_is_doomed(
    hook: ModuleType, tmp_path: Path, name: str, text: str | None, status: str, line: str
) -> None:
    """Files that do not parse, are missing, or are too large end a trial before it trains."""
    for path in RECIPE.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    limits = {"artefact_bytes": 30_000}
    assert hook.answer("preflight", {"tree": str(tmp_path), "limits": limits, "settings": {}})["ok"] is True
    (tmp_path / name).unlink(missing_ok=True)
    if text is not None:
        (tmp_path / name).write_bytes(os.urandom(40_000) if text == "x" else text.encode())
    reply = hook.answer("preflight", {"tree": str(tmp_path), "limits": limits, "settings": {}})

    assert reply["status"] == status
    assert reply["lines"][0].startswith(line)


def test_size_counts_code_and_artefact(hook: ModuleType, tmp_path: Path) -> None:
    """The bytes are those of the artefact's files, of their names, and of the code under one compressor."""
    (tmp_path / "weights.pt").write_bytes(os.urandom(1000))
    reply = hook.answer("measure", {"tree": str(RECIPE), "artefact": str(tmp_path)})

    assert reply["parts"]["artefact"] == 1000
    assert reply["artefact_bytes"] == 1000 + len("weights.pt") + reply["parts"]["code"] > 5000


@pytest.mark.parametrize("kind", ["link", "pipe", "hard", "sparse", "nested", "none"])
def test_an_artefact_that_is_no_plain_folder_of_files_is_invalid(hook: ModuleType, tmp_path: Path, kind: str) -> None:
    """Links, pipes, hard links, sparse giants and folders are refused, and none of them is waited on."""
    folder = tmp_path / "artefact"
    folder.mkdir()
    place = folder / "weights.pt"
    if kind == "link":
        place.symlink_to("/etc/passwd")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "hard":
        place.write_bytes(b"x")
        os.link(place, tmp_path / "elsewhere")
    elif kind == "sparse":
        with place.open("wb") as file:
            file.truncate(1 << 40)
    elif kind == "nested":
        place.mkdir()

    assert "invalid" in hook.answer("measure", {"tree": str(RECIPE), "artefact": str(folder)})


# -----------------------------------------------------------------------------
# right answers


Predictor = Callable[[dict[str, Any], Any], bytes]


def scored(hook: ModuleType, held_out: Path, predictor: Predictor, seed: int = 1) -> dict[str, Any]:
    """Score a predictor that is a function of the header and the images (N, 1, 28, 28)."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    def serve() -> None:
        with os.fdopen(to_read, "rb") as source, os.fdopen(from_write, "wb") as out:
            header = json.loads(source.readline())
            data = source.read(header["images"] * int(np.prod(header["shape"])))
            out.write(predictor(header, np.frombuffer(data, np.uint8).reshape(-1, *header["shape"])))

    thread = threading.Thread(target=serve)
    thread.start()
    request = {"held_out": str(held_out), "seed": seed, "to_trial": to_write, "from_trial": from_read, "settings": {}}
    reply = hook.answer("score", request)
    thread.join(10)
    assert isinstance(reply, dict)
    return reply


@pytest.fixture
def held_out(hook: ModuleType, fashion: Path, tmp_path: Path) -> Path:
    return Path(prepare(hook, tmp_path / "cache", data=str(fashion))["held_out"])


def knows(right: int) -> Predictor:
    """A predictor that has the made-up labels by heart, and names the right class of so many images."""
    known = {image.tobytes(): label for image, label in zip(images(20, 20), labels(20), strict=True)}

    def predict(header: dict[str, Any], seen: Any) -> bytes:
        named = [known[image.tobytes()] for image in seen]
        return np.array([*named[:right], *((label + 1) % 10 for label in named[right:])], dtype="<i4").tobytes()

    return predict


@pytest.mark.parametrize("right", [0, 13, 20])
def test_right_answers_are_counted_in_whole_numbers(hook: ModuleType, held_out: Path, right: int) -> None:
    """The count is exact, whatever the order."""
    reply = scored(hook, held_out, knows(right))

    assert reply["metrics"] == {"correct": right, "images": 20, "accuracy": right / 20}
    assert type(reply["metrics"]["correct"]) is int


def test_the_place_of_an_image_tells_nothing(hook: ModuleType, held_out: Path) -> None:
    """Each seed has an order of its own, and no label crosses the pipe: header and pixels are all there is."""
    seen = []

    def look(header: dict[str, Any], images: Any) -> bytes:
        seen.append((header, images.tobytes()))
        return labels(20).astype("<i4").tobytes()  # as the files have them

    counts = [scored(hook, held_out, look, seed)["metrics"]["correct"] for seed in (1, 2, 1)]

    assert max(counts) < 10
    assert seen[0] == seen[2] != seen[1]
    assert seen[0][0] == {"images": 20, "shape": [1, 28, 28], "classes": 10}


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"", "crashed"),
        (b"\0" * 79, "crashed"),
        (b"\0" * 81, "invalid"),
        (np.full(20, 10, "<i4").tobytes(), "crashed"),
        (np.full(20, -1, "<i4").tobytes(), "crashed"),
        (np.full(20, np.nan, "<f4").tobytes(), "crashed"),
    ],
    ids=["none", "few", "many", "above", "below", "nan"],
)
def test_answers_that_are_none_give_no_score(hook: ModuleType, held_out: Path, sent: bytes, kind: str) -> None:
    """Too few, too many, classes that there are none of, and floats for whole numbers."""
    reply = scored(hook, held_out, lambda _header, _images: sent)

    assert kind in reply
    assert "metrics" not in reply


def test_a_predictor_that_hangs_up_while_it_is_told_has_crashed(hook: ModuleType, tmp_path: Path) -> None:
    """The pipe breaks under the hook's own write; that is the trial's crash, not the hook's."""
    np.save(tmp_path / "images.npy", np.zeros((200, 1, 28, 28), np.uint8))
    np.save(tmp_path / "labels.npy", np.zeros(200, np.uint8))
    to_read, to_write = os.pipe()
    os.close(to_read)
    from_read, from_write = os.pipe()
    os.close(from_write)
    request = {"held_out": str(tmp_path), "seed": 1, "to_trial": to_write, "from_trial": from_read}

    assert hook.answer("score", request) == {"crashed": "the predictor stopped reading"}
