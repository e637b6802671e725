"""The artefact's tokenizer: a list of merges, read as data. The text is cut here, by a pre-tokenizer that can't be
changed, and every text must come back byte for byte."""

import json
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers

MAX_VOCAB = 1 << 17
MAX_JSON = 8 << 20  # bytes; the merges of 32,768 tokens take about one


class Invalid(Exception):
    """The merges can't be what an honest trial makes."""


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


class Tokens:
    """A byte-level BPE with a fixed pre-tokenizer: 256 bytes, then one token a merge in order."""

    def __init__(self, data: bytes) -> None:
        merges = read_merges(data)
        pieces = byte_pieces()
        vocab = {piece: i for i, piece in enumerate(pieces)}
        for left, right in merges:
            if left not in vocab or right not in vocab or left + right in vocab:
                raise Invalid("a merge joins unknown pieces or makes one that is there already")
            vocab[left + right] = len(vocab)
        value = {piece: byte for byte, piece in enumerate(pieces)}
        self.bytes = [bytes(value[char] for char in piece) for piece in vocab]
        self.vocab = len(vocab)
        self._tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Each text's tokens; Invalid where they do not give it back byte for byte."""
        ids = [found.ids for found in self._tokenizer.encode_batch_fast(texts)]
        for text, found in zip(texts, ids, strict=True):
            if b"".join([self.bytes[token] for token in found]) != text.encode():
                raise Invalid("the tokenizer does not give the text back")
        return ids


def byte_pieces() -> list[str]:
    """The printable character that stands for each byte in a byte-level BPE (the mapping of GPT-2's encoder)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    extra = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(extra)) for byte in range(256)]


def strict_json(data: bytes, what: str) -> Any:
    """JSON without duplicate keys, non-finite or huge numbers; Invalid otherwise."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in items}) != len(items):
            raise ValueError("a key stands twice")
        return dict(items)

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no number")

    try:
        if len(data) > MAX_JSON:
            raise ValueError(f"larger than {MAX_JSON} bytes")
        return json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{what} can't be read: {str(error)[:120]}") from None
