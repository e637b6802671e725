"""What is read, and in what order: documents -> tokens -> batches.

At mini scale three sources are cut once and used over and over; at full scale (RENEW) a text is read on when what was
cut has been seen once, every process taking documents of its own.
Left plain on purpose at mini scale: sources by their size, windows that begin anywhere, one length throughout.
"""

import json
import os
import random
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor

from nano.tokenizer import Cutter

SPEECHES: Annotated[float, "0..3"] = 1.0  # how often a source is drawn, times its size: 1 is as often as it is long
BIBLE: Annotated[float, "0..3"] = 1.0
NOVEL: Annotated[float, "0..3"] = 1.0
TEXT_BYTES: Annotated[int, "500000..8000000 step 500000"] = 2_000_000  # cut at once; 0.6 CPU-s a million
SEQUENCE: Literal[32, 64, 96, 128, 192] = 128  # tokens; hardly any prompt is longer than 128
BATCH: Annotated[int, "4..96 step 4"] = 8  # sequences a step and process
BEGIN: Literal["anywhere", "sentence", "document"] = "anywhere"  # what a window begins with, after the start mark
GROW: Annotated[float, "0..0.8"] = 0.0  # share of the training with sequences of half the length
DEDUP: bool = False  # a sentence that stands in the text already is left out
RENEW: bool = False  # read on, instead of using the same text again

BETWEEN = "\n\n"  # documents
SENTENCE_END = re.compile(r"(?<=[.!?]) ")


@dataclass
class Source:
    """One text: its tokens, where a window may begin, and how often it is drawn."""

    tokens: Tensor
    begins: Tensor
    weight: float


def paths() -> dict[str, list[Path]]:
    """The training files by source: the name before the first dot or digit."""
    found: dict[str, list[Path]] = {}
    for path in sorted(Path(os.environ["GITRESEARCH_DATA"]).iterdir()):
        if path.suffix in (".txt", ".jsonl", ".parquet"):
            found.setdefault(re.split(r"[.\d]", path.name)[0].rstrip("_-"), []).append(path)
    if not found:
        raise FileNotFoundError("there is no .txt, .jsonl or .parquet file in GITRESEARCH_DATA")
    return found


def read(path: Path) -> Iterator[str]:
    """A file's documents: between blank lines, one an object with a "text", or a column "text"."""
    if path.suffix == ".txt":
        yield from path.read_text("utf-8").split("\n\n")
    elif path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line)["text"] for line in lines)
    else:
        from pyarrow import parquet  # noqa: PLC0415  (only full scale has such files)

        for group in parquet.ParquetFile(path).iter_batches(columns=["text"]):
            yield from group.column(0).to_pylist()


def documents(files: list[Path], rank: int = 0, world: int = 1) -> Iterator[str]:
    """Documents for ever, each process its own. A short text is mixed, by the same draw for all: less noise."""
    while True:
        for path in files:
            found: Iterator[str] | list[str] = read(path)
            if path.suffix == ".txt":
                found = list(found)
                random.Random(0).shuffle(found)
            yield from (text for i, text in enumerate(found) if i % world == rank)


def sample(files: dict[str, list[Path]]) -> Iterator[str]:
    """Documents of all sources by turns, once: what the tokenizer is learnt on."""
    streams = [(text for path in group for text in read(path)) for group in files.values()]
    while streams:
        for stream in list(streams):
            text = next(stream, None)
            if text is None:
                streams.remove(stream)
            else:
                yield text


class Text:
    """One source: cuts what it has in view, and says which windows there are."""

    def __init__(self, files: list[Path], share: float, weight: float, rank: int, world: int) -> None:
        self.size = max(1, int(share * TEXT_BYTES))
        self.total = sum(path.stat().st_size for path in files)
        self.weight, self.stream = weight, documents(files, rank, world)

    def cut(self, cutter: Cutter) -> Source:
        """The next `size` characters, or the whole text where it is shorter."""
        texts, length = [], 0
        seen: set[int] = set()  # sentences of what is in view
        while length < min(self.size, self.total):
            text = next(self.stream)[: self.size - length]
            length += len(text) + len(BETWEEN)
            texts.append(f"{_unseen(text, seen) if DEDUP else text}{BETWEEN}")
        found = cutter([piece for text in texts for piece in pieces(text)])
        kept = [piece for piece in found if len(piece)]
        starts = torch.tensor([0, *(len(piece) for piece in kept)]).cumsum(0)[:-1]
        tokens = torch.cat(kept)
        return Source(tokens, starts if BEGIN != "anywhere" else torch.arange(len(tokens)), self.weight * self.size)


def _unseen(text: str, seen: set[int]) -> str:
    """A document without the sentences that stood in one before."""
    kept = []
    for sentence in SENTENCE_END.split(text):
        key = hash(sentence)
        if len(sentence) < 40 or key not in seen:
            kept.append(sentence)
        seen.add(key)
    return " ".join(kept)


def pieces(text: str) -> list[str]:
    """A document as it is cut: whole, or by sentences where windows begin with one. The space before a sentence goes
    with the one before it, so that a window begins as the evaluator's prompts do."""
    if BEGIN != "sentence":
        return [text]
    parts = SENTENCE_END.split(text)
    return [*(f"{part} " for part in parts[:-1]), parts[-1]]


class Supply:
    """Batches: inputs and targets (BATCH, SEQUENCE), for ever; each input begins with the start mark."""

    def __init__(self, files: dict[str, list[Path]], cutter: Cutter, seed: int, rank: int = 0, world: int = 1) -> None:
        self.cutter, self.start_mark = cutter, cutter.vocab
        self.generator = torch.Generator().manual_seed(seed * world + rank)
        often = {"speeches": SPEECHES, "bible": BIBLE, "novel": NOVEL}
        sizes = {name: sum(path.stat().st_size for path in group) for name, group in files.items()}
        whole = sum(sizes.values())
        self.texts = [
            Text(group, sizes[name] / whole, often.get(name, 1.0), rank, world) for name, group in files.items()
        ]
        self.aside = ThreadPoolExecutor(1) if RENEW else None
        self.coming: Future[list[Source]] | None = None
        self.renew()

    def renew(self) -> None:
        """Take the next text; with RENEW the one after it is cut meanwhile, by another thread."""
        self.sources = self.coming.result() if self.coming else self._cut()
        self.coming = self.aside.submit(self._cut) if self.aside else None
        weights = torch.tensor([source.weight for source in self.sources])
        self.weights = weights if weights.sum() > 0 else torch.ones(len(self.sources))
        self.left = sum(len(source.tokens) for source in self.sources)

    def _cut(self) -> list[Source]:
        return [text.cut(self.cutter) for text in self.texts]

    def next(self, progress: float) -> tuple[Tensor, Tensor]:
        """A batch, at a progress from 0 to 1. With GROW, short sequences come first, twice as many of them."""
        short = progress < GROW
        length, rows = (SEQUENCE // 2, 2 * BATCH) if short else (SEQUENCE, BATCH)
        if RENEW and self.left < rows * length:
            self.renew()
        self.left -= rows * length
        drawn = torch.multinomial(self.weights, rows, replacement=True, generator=self.generator)
        targets = torch.stack([self._window(self.sources[i], length) for i in drawn.tolist()]).long()
        marks = torch.full((rows, 1), self.start_mark)
        return torch.cat([marks, targets[:, :-1]], dim=1), targets

    def _window(self, source: Source, length: int) -> Tensor:
        at = source.begins[int(torch.randint(len(source.begins), (1,), generator=self.generator))]
        at = min(int(at), max(0, len(source.tokens) - length))
        window = source.tokens[at : at + length]
        return window if len(window) == length else window.repeat(-(-length // len(window)))[:length]
