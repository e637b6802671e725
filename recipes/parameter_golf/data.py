"""Text to tokens to batches.

The evaluator cuts the held-out text with the same byte-level BPE, from the merges alone: 256 bytes, then one token a
merge in order. Its pre-tokenizer is fixed; the vocabulary's size and what it is learnt on are choices.
Left plain on purpose: one vocabulary learnt on the head of the text, uniform random windows.
"""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor

VOCAB: Annotated[int, "256..3072 step 64"] = 512
TOKENIZER_BYTES: Annotated[int, "100000..2000000 step 100000"] = 300_000  # of text to learn the merges on
TEXT_BYTES: Annotated[int, "300000..3900000 step 100000"] = 600_000  # of text to cut: 0.6 CPU-s a million
SEQUENCE: Literal[32, 64, 128, 256] = 64  # tokens
BATCH: Annotated[int, "4..96 step 4"] = 8  # sequences a step
ORDER: Literal["random", "epoch"] = "random"  # windows at random offsets, or each once an epoch


def read_text() -> str:
    """TEXT_BYTES of the training split, in documents from all over it (always the same ones: less noise)."""
    documents = (Path(os.environ["GITRESEARCH_DATA"]) / "train.txt").read_text("utf-8").split("\n\n")
    random.Random(0).shuffle(documents)
    return "\n\n".join(documents)[:TEXT_BYTES]


def learn_merges(text: str) -> list[tuple[str, str]]:
    """The merges of a byte-level BPE with VOCAB tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text[:TOKENIZER_BYTES].splitlines(keepends=True), trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    first: dict[str, tuple[str, str]] = {}  # two merges may make one piece; the evaluator takes the first
    for a, b in merges:
        first.setdefault(a + b, (a, b))
    return list(first.values())


def byte_pieces() -> list[str]:
    """The character that stands for each byte, as every byte-level BPE since GPT-2 has it."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def make_tokenizer(merges: list[tuple[str, str]]) -> Tokenizer:
    """The tokenizer of a list of merges, with the evaluator's numbering."""
    pieces = [*byte_pieces(), *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return tokenizer


def encode(text: str, tokenizer: Tokenizer) -> Tensor:
    """The text's tokens (N,), cut at blank lines so that no piece grows with the text."""
    ids: list[int] = []
    for part in tokenizer.encode_batch_fast(text.splitlines(keepends=True)):
        ids += part.ids
    return torch.tensor(ids, dtype=torch.long)


def batches(tokens: Tensor, start_mark: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets (BATCH, SEQUENCE), for ever; each input begins with the start mark."""
    span = torch.arange(SEQUENCE)
    while True:
        if ORDER == "epoch":
            offset = int(torch.randint(SEQUENCE, (1,), generator=generator))
            starts = torch.arange(offset, len(tokens) - SEQUENCE, SEQUENCE)
            groups = starts[torch.randperm(len(starts), generator=generator)].split(BATCH)
        else:
            groups = (torch.randint(len(tokens) - SEQUENCE, (BATCH,), generator=generator),)
        for group in groups:
            targets = tokens[group[:, None] + span]
            marks = torch.full((len(group), 1), start_mark)
            yield torch.cat([marks, targets[:, :-1]], dim=1), targets
