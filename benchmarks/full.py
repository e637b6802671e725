"""The full scale on a GPU, cut short, on stand-ins for the data that no package has.

    python benchmarks/full.py --task golf --set study.toml:train_seconds=90 --set train.py:STEPS=300

Stand-ins have the public formats and are made of what the small scale has fetched (`gitresearch data fetch` in a study
of each recipe): token files of a BPE of 1,024 tokens and a bundle of 22 tasks from its texts, CIFAR-10's records from
Fashion-MNIST. Scores on them compare with nothing. What this tells: that each program trains, stays in its limits and
is scored on this machine; seconds, steps a second, and the accelerator's memory in each phase.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gitresearch import folders, sandbox, share
from gitresearch.evaluate import Evaluator
from gitresearch.repo import Repo
from gitresearch.stages import Event
from gitresearch.study import STUDY_FILE, load

PROGRAM = [sys.executable, "-c", "from gitresearch.cli.main import main; main()"]
VOCAB = 1024
FETCH = "try: gitresearch init --recipe nanochat D && gitresearch -C D data fetch, and the same for airbench"


# -----------------------------------------------------------------------------
# stand-ins


def documents(cache: Path) -> tuple[list[str], list[str]]:
    """Texts to train on and, every fourth of them, held out."""
    paths = sorted((cache / "mini-core-1/train").glob("*.txt"))
    found = [text for path in paths for text in path.read_text("utf-8").split("\n\n") if text.strip()]
    return [text for i, text in enumerate(found) if i % 4], found[::4]


def golf(cache: Path, out: Path) -> None:
    """Token files as FineWeb's, and the table of their tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: PLC0415

    train, held_out = documents(cache)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    control = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=control, show_progress=False)
    tokenizer.train_from_iterator(train[::8], trainer)
    for folder, name, texts in (("train", "train", train), ("held_out", "val", held_out)):
        (out / folder).mkdir(parents=True)
        rows = [np.array([1, *one.ids], dtype="<u2") for one in tokenizer.encode_batch_fast(texts)]
        tokens = np.concatenate(rows)
        header = np.zeros(256, dtype="<i4")
        header[:3] = 20240520, 1, len(tokens)
        (out / folder / f"fineweb_{name}_000000.bin").write_bytes(header.tobytes() + tokens.tobytes())
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    table = "".join(f"{piece}\t0\n" for piece, _ in pieces)
    (out / "held_out/standin.vocab").write_text(table, "utf-8")


def nanochat(cache: Path, out: Path) -> None:
    """Text as parquet, where pyarrow is there, and 22 tasks of the nine small ones' items, half with examples."""
    train, held_out = documents(cache)
    for folder in ("train", "held_out/eval_bundle/eval_data"):
        (out / folder).mkdir(parents=True)
    try:
        import pyarrow  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415

        parquet.write_table(pyarrow.table({"text": train}), out / "train/shard_00000.parquet", row_group_size=1024)
    except ImportError:
        lines = "".join(json.dumps({"text": text}) + "\n" for text in train)
        (out / "train/shard_00000.jsonl").write_text(lines, "utf-8")
    (out / "held_out/val.txt").write_text("\n\n".join(held_out), "utf-8")
    small, bundle = cache / "mini-core-1/held_out/tasks", out / "held_out/eval_bundle"
    kinds = re.findall(r"label: (\S+)\n.*\n.*\n +icl_task_type: (\S+)", (small / "core.yaml").read_text("utf-8"))
    chances = dict(line.split(",") for line in (small / "eval_meta_data.csv").read_text("utf-8").splitlines()[1:])
    table, baselines = "icl_tasks:\n", "Eval Task,Random baseline\n"
    for number in range(22):
        label, kind = kinds[number % len(kinds)]
        lines = (small / f"eval_data/{label}.jsonl").read_text("utf-8").splitlines(keepends=True)
        name, shots = f"{label}_{number}", 10 * (number % 2)
        (bundle / f"eval_data/{name}.jsonl").write_text("".join(lines[number // len(kinds) :: 3]), "utf-8")
        table += f"-\n  label: {name}\n  dataset_uri: {name}.jsonl\n  num_fewshot: [{shots}]\n  icl_task_type: {kind}\n"
        baselines += f"{name},{chances[label]}\n"
    (bundle / "core.yaml").write_text(table, "utf-8")
    (bundle / "eval_meta_data.csv").write_text(baselines, "utf-8")


def airbench(cache: Path, out: Path) -> None:
    """Fashion-MNIST as CIFAR-10's records: a margin of two pixels, the same in three channels."""
    found = [path for path in sorted(cache.glob("airbench-*")) if path.is_dir()]
    out.mkdir(parents=True)
    for split, names in (("train", [f"data_batch_{i}" for i in range(1, 6)]), ("held_out", ["test_batch"])):
        images, labels = (np.load(found[0] / split / f"{name}.npy") for name in ("images", "labels"))
        for number, name in enumerate(names):
            some = slice(10_000 * number, 10_000 * (number + 1))
            pixels = np.pad(images[some].reshape(-1, 1, 28, 28), ((0, 0), (0, 0), (2, 2), (2, 2))).repeat(3, axis=1)
            records = np.concatenate([labels[some].astype(np.uint8)[:, None], pixels.reshape(len(pixels), -1)], axis=1)
            (out / f"{name}.bin").write_bytes(records.tobytes())


STAND_INS: dict[str, Callable[[Path, Path], None]] = {"golf": golf, "nanochat": nanochat, "airbench": airbench}


# -----------------------------------------------------------------------------
# running


def begin(top: Path, task: str, changes: list[str]) -> None:
    """A study of the recipe's full scale with FILE:NAME=VALUE changed in it."""
    subprocess.run([*PROGRAM, "init", str(top), "--recipe", task, "--scale", "full", "--no-commit"], check=True)
    for change in changes:
        file, name, value = re.split(r"[:=]", change, maxsplit=2)
        path = top / file if file == STUDY_FILE else top / "recipes" / share.recipe(task).name / file
        pattern = rf"(?m)^({re.escape(name)}(?:: .*?)?) = [^#\n]*?(?= *#|$)"
        text, count = re.subn(pattern, lambda found, new=value: f"{found[1]} = {new}", path.read_text("utf-8"))
        if count != 1:
            raise SystemExit(f"{file} has {count} lines that begin with {name} =, not one")
        path.write_text(text, "utf-8")
    who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for words in (["add", "--all"], [*who, "commit", "-q", "-m", "begin"]):
        subprocess.run(["git", "-C", str(top), *words], check=True)


class Watch:
    """What was seen of a run: its phases, and the most memory of the accelerator in each (MiB)."""

    def __init__(self) -> None:
        self.phase, self.memory, self.told = "", dict[str, int](), list[tuple[float, float]]()

    def heed(self, event: Event) -> None:
        self.phase = event.phase
        if event.phase == "train" and event.share and (not self.told or event.share > self.told[-1][1]):
            self.told.append((event.used, event.share))

    def share_a_second(self) -> float:
        """Of the training, over its later half: compiling is before it."""
        late = [point for point in self.told if point[1] >= self.told[-1][1] / 2]
        spent = late[-1][0] - late[0][0] if late else 0.0
        return (late[-1][1] - late[0][1]) / spent if spent else 0.0

    @contextmanager
    def sampling(self) -> Iterator[None]:
        if shutil.which("nvidia-smi") is None:
            yield
            return
        asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-lms", "250"]
        with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) as smi:
            threading.Thread(target=self._take, args=[smi.stdout], daemon=True).start()
            try:
                yield
            finally:
                smi.kill()

    def _take(self, lines: Any) -> None:
        for line in lines:
            if line.strip().isdigit():
                self.memory[self.phase] = max(int(line), self.memory.get(self.phase, 0))


def chosen(level: str) -> sandbox.Sandbox:
    """The strongest rung, or the one that is named."""
    if not level:
        return sandbox.choose(False, folders.cache())
    rung = next(rung for rung in sandbox.rungs(folders.cache()) if rung.level == level)
    if rung.box is None or rung.fault:
        raise SystemExit(f"{rung.fault}; try: gitresearch doctor")
    return rung.box


def measure(top: Path, task: str, seeds: int, level: str) -> Iterator[dict[str, Any]]:
    """Each run's figures."""
    repo, study, watch = Repo.open(top), load((top / STUDY_FILE).read_text("utf-8"), STUDY_FILE), Watch()
    base = repo.head_commit()
    repo.pin_study(study.name, base)
    box, trial = chosen(level), repo.make_baseline(study.name, base)
    with closing(Evaluator(repo, study, base, box, folders.cache(), watch.heed)) as evaluator, watch.sampling():
        evaluator.prepare()
        for seed in range(1, seeds + 1):
            watch.told.clear()
            watch.memory.clear()
            found = evaluator.run(trial, seed, "baseline")
            run = found.run
            scores = {name: value for name, value in run.metrics.items() if not name.startswith("task_")}
            yield {
                "task": task, "sandbox": box.description, "seed": seed, "status": run.status, "metrics": scores,
                "warmup_seconds": run.warmup_seconds, "train_seconds": run.train_seconds,
                "eval_seconds": run.eval_seconds, "smoke_seconds": run.smoke_seconds, "wall_seconds": run.wall_seconds,
                "artefact_bytes": run.artefact_bytes, "host_mb": run.peak_memory_bytes >> 20,
                "accelerator_mb": dict(watch.memory), "share_a_second": round(watch.share_a_second(), 6),
                "curve": list(run.curve), "failure": list(found.failure.lines) if found.failure else [],
            }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=sorted(STAND_INS), required=True)
    parser.add_argument("--set", action="append", default=[], metavar="FILE:NAME=VALUE", dest="changes")
    parser.add_argument("--seeds", type=int, default=1, help="runs [1]")
    parser.add_argument(
        "--level", choices=["bubblewrap", "landlock"], default="", help="a rung of the sandbox [the strongest]"
    )
    parser.add_argument("--data", type=Path, help="a folder of real data, or where stand-ins are to lie")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        data = args.data or Path(work, "data")
        if not data.exists():
            cache = folders.cache() / "data"
            if not ((cache / "mini-core-1/train").is_dir() and any(cache.glob("airbench-*/"))):
                raise SystemExit(f"{cache} lacks what stand-ins are made of; {FETCH}")
            STAND_INS[args.task](cache, data)
        os.environ[f"GITRESEARCH_DATA_{args.task.upper()}"] = str(data.absolute())
        begin(Path(work, "study"), args.task, args.changes)
        for found in measure(Path(work, "study"), args.task, args.seeds, args.level):
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
