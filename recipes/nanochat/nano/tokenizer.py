"""The tokenizer: a byte-level BPE, learnt on some of the training text.

The evaluator cuts its tasks with the artefact's merges, and a pre-tokenizer that can't be changed: 256 bytes, then one
token a merge in order. So how large the vocabulary is, and on what it is learnt, are choices; how text is cut is none.
Left plain on purpose at mini scale: few tokens, learnt on the first of the text.
"""

import json
from collections.abc import Iterable
from typing import Annotated

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor

VOCAB: Annotated[int, "512..4096 step 64"] = 1024  # with fewer the longest prompts don't fit MAX_LENGTH
TOKENIZER_BYTES: Annotated[int, "100000..2000000 step 100000"] = 300_000  # of text to learn the merges on

Merges = list[tuple[str, str]]


def byte_pieces() -> list[str]:
    """The character that stands for each byte, as every byte-level BPE since GPT-2 has it."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def learn(documents: Iterable[str]) -> Merges:
    """The merges of a byte-level BPE with VOCAB tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_head(documents), trainer)
    first: dict[str, tuple[str, str]] = {}  # two merges may make one piece; the evaluator takes the first
    for a, b in json.loads(tokenizer.to_str())["model"]["merges"]:
        first.setdefault(a + b, (a, b))
    return list(first.values())


def _head(documents: Iterable[str]) -> Iterable[str]:
    left = TOKENIZER_BYTES
    for text in documents:
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


class Cutter:
    """Text to tokens, as the evaluator cuts it."""

    def __init__(self, merges: Merges) -> None:
        pieces = [*byte_pieces(), *(a + b for a, b in merges)]
        self.vocab = len(pieces)
        self.tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
        self.tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)

    def __call__(self, texts: list[str]) -> list[Tensor]:
        """The tokens of each text."""
        return [torch.tensor(found.ids, dtype=torch.int32) for found in self.tokenizer.encode_batch_fast(texts)]
