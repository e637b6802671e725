"""The tokenizer: text to tokens.

The evaluator cuts the held-out text with the same byte-level BPE, from the merges alone: 256 bytes, then one token a
merge in order. Its pre-tokenizer is fixed; the vocabulary's size and what it is learnt on are choices. A larger one
makes fewer tokens of the text and takes bytes for its merges and embeddings.
Left plain on purpose: a small vocabulary, learnt on the head of the text.
"""

import json
from typing import Annotated, Literal

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor

VOCAB: Annotated[int, "256..1536 step 64"] = 512
TOKENIZER_BYTES: Annotated[int, "100000..2000000 step 100000"] = 300_000  # of text to learn the merges on
LEARN_FROM: Literal["head", "everywhere"] = "head"  # of the text: its beginning, or lines from all over it
MIN_COUNT: Annotated[int, "0..20"] = 0  # a merge must occur so often; with a high one the vocabulary stays smaller


def learn_merges(text: str) -> list[tuple[str, str]]:
    """The merges of a byte-level BPE with at most VOCAB tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, min_frequency=MIN_COUNT, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_sample(text), trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    first: dict[str, tuple[str, str]] = {}  # two merges may make one piece; the evaluator takes the first
    for a, b in merges:
        first.setdefault(a + b, (a, b))
    return list(first.values())


def _sample(text: str) -> list[str]:
    """About TOKENIZER_BYTES of the text's lines."""
    if LEARN_FROM == "head":
        return text[:TOKENIZER_BYTES].splitlines(keepends=True)
    return text.splitlines(keepends=True)[:: max(1, round(len(text) / TOKENIZER_BYTES))]


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
