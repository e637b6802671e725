"""Weights to bytes and back. The artefact's size counts: 160,000 bytes hold code, merges and weights.

Matrices are stored as integers with one float16 scale a row, the rest as float16; then all is compressed.
Left plain on purpose: eight bits everywhere, nearest rounding, zlib; training knows nothing of it.
"""

import bz2
import contextlib
import json
import lzma
import math
import zlib
from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor, nn

BITS: Literal[4, 5, 6, 8, 16] = 8  # of the blocks' matrices; 16 is float16
EMBED_BITS: Literal[4, 5, 6, 8, 16] = 8  # of embeddings and output
CLIP: Annotated[float, "0.7..1.0"] = 1.0  # of a row's largest weight; what lies above is cut
SPARSITY: Annotated[float, "0..0.6"] = 0.0  # share of a matrix's smallest weights that become 0: they compress well
LAYOUT: Literal["packed", "bytes", "columns"] = "packed"  # bits side by side; or a byte each, by row or column
COMPRESSION: Literal["zlib", "lzma", "bz2"] = "zlib"
ROUND_FROM: Annotated[float, "0.5..1.0"] = 1.0  # from here on training sees the weights as stored (Bengio 2013)

COMPRESSORS = {
    "zlib": (lambda data: zlib.compress(data, 9), zlib.decompress),
    "lzma": (lambda data: lzma.compress(data, preset=9), lzma.decompress),
    "bz2": (bz2.compress, bz2.decompress),
}


def to_integers(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Rows of a matrix as integers of `bits` bits in int8, and a scale (rows, 1) for each."""
    top = 2 ** (bits - 1) - 1
    if SPARSITY > 0.0:
        least = weight.abs().flatten().kthvalue(max(1, int(SPARSITY * weight.numel()))).values
        weight = weight * (weight.abs() > least)
    scale = (weight.abs().amax(dim=1, keepdim=True) * CLIP / top).clamp_min(1e-8).half().float().clamp_min(1e-7)
    return (weight / scale).round().clamp(-top, top).to(torch.int8), scale


def pack_bits(values: np.ndarray, bits: int) -> bytes:
    """Integers packed to `bits` bits each (two's complement, shifted to be positive)."""
    positive = (values.astype(np.int16).ravel() + 2 ** (bits - 1)).astype(np.uint8)
    return np.packbits(np.unpackbits(positive[:, None], axis=1)[:, 8 - bits :]).tobytes()


def unpack_bits(data: bytes, bits: int, count: int) -> np.ndarray:
    """What `pack_bits` packed, as int8 (count,)."""
    spread = np.unpackbits(np.frombuffer(data, dtype=np.uint8))[: count * bits].reshape(count, bits)
    padded = np.concatenate([np.zeros((count, 8 - bits), dtype=np.uint8), spread], axis=1)
    return (np.packbits(padded, axis=1).ravel().astype(np.int16) - 2 ** (bits - 1)).astype(np.int8)


def bits_of(name: str, weight: Tensor) -> int:
    if weight.dim() != 2:
        return 16
    return BITS if "blocks" in name else EMBED_BITS


@contextlib.contextmanager
def rounded(model: nn.Module, progress: float) -> Iterator[None]:
    """The model with its weights as they will be stored, from ROUND_FROM on; afterwards they are what they were."""
    exact = {}
    if progress >= ROUND_FROM:
        for name, weight in model.named_parameters():
            if (bits := bits_of(name, weight)) < 16:
                exact[name] = weight.data
                integers, scale = to_integers(weight.data, bits)
                weight.data = integers * scale
    yield
    for name, weight in model.named_parameters():
        weight.data = exact.get(name, weight.data)


def pack(state: dict[str, Tensor]) -> bytes:
    """All weights: a letter for the compressor, a line of JSON with names, shapes and bits, then their bytes."""
    head, parts = [], []
    for name, value in state.items():
        weight, bits = value.cpu(), bits_of(name, value)
        head.append([name, list(weight.shape), bits])
        if bits == 16:
            parts.append(weight.half().numpy().tobytes())
            continue
        integers, scale = to_integers(weight, bits)
        parts.append(scale.half().numpy().tobytes())
        whole = integers.T.contiguous() if LAYOUT == "columns" else integers
        parts.append(pack_bits(whole.numpy(), bits) if LAYOUT == "packed" else whole.numpy().tobytes())
    whole = json.dumps([LAYOUT, head], separators=(",", ":")).encode() + b"\n" + b"".join(parts)
    return COMPRESSION[:1].encode() + COMPRESSORS[COMPRESSION][0](whole)


def unpack(data: bytes) -> dict[str, Tensor]:
    """What `pack` packed, as float32 weights by name."""
    name = next(name for name in COMPRESSORS if name.encode()[:1] == data[:1])
    first, _, body = COMPRESSORS[name][1](data[1:]).partition(b"\n")
    layout, head = json.loads(first)
    state, at = {}, 0
    for name, shape, bits in head:
        count = math.prod(shape)
        if bits == 16:
            raw = np.frombuffer(body, dtype=np.float16, count=count, offset=at)
            state[name] = torch.from_numpy(raw.astype(np.float32)).reshape(shape)
            at += 2 * count
            continue
        scale = np.frombuffer(body, dtype=np.float16, count=shape[0], offset=at).astype(np.float32)
        at += 2 * shape[0]
        size = -(-count * bits // 8) if layout == "packed" else count
        stored = body[at : at + size]
        integers = unpack_bits(stored, bits, count) if layout == "packed" else np.frombuffer(stored, dtype=np.int8)
        integers = integers.reshape(shape[::-1]).T if layout == "columns" else integers.reshape(shape)
        state[name] = torch.from_numpy(integers.astype(np.float32) * scale[:, None])
        at += size
    return state
