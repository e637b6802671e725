"""The curriculum: which text is read, in windows of what length, in which order.

Left plain on purpose: windows of one length, at random offsets.
"""

import os
import random
from pathlib import Path
from typing import Annotated, Literal

import torch
from shards import Shards
from torch import Tensor

TEXT_BYTES: Annotated[int, "300000..3900000 step 100000"] = 600_000  # of text to cut: 0.6 CPU-s a million
SEQUENCE: Literal[32, 64, 128, 256] = 64  # tokens
BATCH: Annotated[int, "4..96 step 4"] = 8  # sequences a step
ORDER: Literal["random", "epoch"] = "random"  # windows at random offsets, or each once an epoch
SHORT_BY: Literal[1, 2, 4] = 1  # the first windows are so many times shorter, and more of them (Li et al. 2022)
SHORT_UNTIL: Annotated[float, "0.05..0.7", "if SHORT_BY != 1"] = 0.3  # share of the training
EASY_UNTIL: Annotated[float, "0..0.8"] = 0.0  # until then windows of rare tokens come in one by one (Bengio 2009)
POOL = 20_000  # windows to order by how rare their tokens are


def read_text() -> str:
    """TEXT_BYTES of the training split, in documents from all over it (always the same ones: less noise)."""
    documents = (Path(os.environ["GITRESEARCH_DATA"]) / "train.txt").read_text("utf-8").split("\n\n")
    random.Random(0).shuffle(documents)
    return "\n\n".join(documents)[:TEXT_BYTES]


class Supply:
    """Batches without end, from tokens (N,) or token files. Of `world` processes each draws its own part."""

    def __init__(self, tokens: Tensor | Shards, start_mark: int, seed: int, world: int = 1) -> None:
        self.tokens, self.start_mark, self.world = tokens, start_mark, world
        self.generator = torch.Generator().manual_seed(seed)
        self.queue, self.cut = torch.empty(0, dtype=torch.long), 0  # where windows of so many tokens begin
        self.easy = self._easy_first() if EASY_UNTIL > 0.0 else None

    def draw(self, progress: float) -> tuple[Tensor, Tensor]:
        """Inputs and targets (BATCH, SEQUENCE) at a progress from 0 to 1; each input begins with the start mark."""
        shorter = SHORT_BY if progress < SHORT_UNTIL else 1
        length, count = SEQUENCE // shorter, BATCH * shorter // self.world
        targets = self._windows(self._starts(progress, length, count), length)
        marks = torch.full((count, 1), self.start_mark)
        return torch.cat([marks, targets[:, :-1]], dim=1), targets

    def _starts(self, progress: float, length: int, count: int) -> Tensor:
        """Where the next windows begin, (count,)."""
        if self.easy is not None and progress < EASY_UNTIL:
            known = int(len(self.easy) * (0.2 + 0.8 * progress / EASY_UNTIL))
            return self.easy[torch.randint(known, (count,), generator=self.generator)]
        if ORDER == "random":
            return torch.randint(len(self.tokens) - length, (count,), generator=self.generator)
        if length != self.cut:  # what waits was cut shorter: longer windows from there would overlap, and pass the end
            self.queue, self.cut = self.queue[:0], length
        while len(self.queue) < count:
            offset = int(torch.randint(length, (1,), generator=self.generator))
            starts = torch.arange(offset, len(self.tokens) - length, length)
            starts = starts[torch.randperm(len(starts), generator=self.generator)]
            self.queue = torch.cat([self.queue, starts])
        starts, self.queue = self.queue[:count], self.queue[count:]
        return starts

    def _windows(self, starts: Tensor, length: int) -> Tensor:
        if isinstance(self.tokens, Shards):
            return self.tokens.windows(starts, length)
        return self.tokens[starts[:, None] + torch.arange(length)]

    def _easy_first(self) -> Tensor:
        """Starts of windows, those of frequent tokens first."""
        starts = torch.randint(len(self.tokens) - SEQUENCE, (POOL,), generator=self.generator)
        windows = self._windows(starts, SEQUENCE)
        rarity = -(windows.flatten().bincount().clamp_min(1) / windows.numel()).log()
        return starts[rarity[windows].mean(dim=1).argsort()]
