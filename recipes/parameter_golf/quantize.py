"""Weights to bytes and back. The artefact's size counts: 160,000 bytes hold code, merges and weights.

Matrices are stored as integers with one float16 scale a row, the rest as float16; then all is compressed.
Left plain on purpose: eight bits everywhere, zlib, nearest rounding.
"""

import json
import lzma
import math
import zlib
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

BITS: Literal[4, 5, 6, 8, 16] = 8  # of the blocks' matrices; 16 is float16
EMBED_BITS: Literal[4, 5, 6, 8, 16] = 8  # of embeddings and output
CLIP: Annotated[float, "0.7..1.0"] = 1.0  # of a row's largest weight; what lies above is cut
COMPRESSION: Literal["zlib", "lzma"] = "zlib"


def to_integers(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Rows of a matrix as integers of `bits` bits in int8, and a scale (rows, 1) for each."""
    top = 2 ** (bits - 1) - 1
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


def pack(state: dict[str, Tensor]) -> bytes:
    """All weights: a line of JSON with names, shapes and bits, then their bytes, compressed."""
    head, parts = [], []
    for name, weight in state.items():
        bits = bits_of(name, weight)
        head.append([name, list(weight.shape), bits])
        if bits == 16:
            parts.append(weight.half().numpy().tobytes())
            continue
        integers, scale = to_integers(weight, bits)
        parts += [scale.half().numpy().tobytes(), pack_bits(integers.numpy(), bits)]
    whole = json.dumps(head, separators=(",", ":")).encode() + b"\n" + b"".join(parts)
    return b"z" + zlib.compress(whole, 9) if COMPRESSION == "zlib" else b"x" + lzma.compress(whole, preset=9)


def unpack(data: bytes) -> dict[str, Tensor]:
    """What `pack` packed, as float32 weights by name."""
    whole = zlib.decompress(data[1:]) if data[:1] == b"z" else lzma.decompress(data[1:])
    head, _, body = whole.partition(b"\n")
    state, at = {}, 0
    for name, shape, bits in json.loads(head):
        count = math.prod(shape)
        if bits == 16:
            raw = np.frombuffer(body, dtype=np.float16, count=count, offset=at)
            state[name] = torch.from_numpy(raw.astype(np.float32)).reshape(shape)
            at += 2 * count
            continue
        scale = np.frombuffer(body, dtype=np.float16, count=shape[0], offset=at).astype(np.float32)
        at += 2 * shape[0]
        size = -(-count * bits // 8)
        integers = unpack_bits(body[at : at + size], bits, count).reshape(shape)
        state[name] = torch.from_numpy(integers.astype(np.float32) * scale[:, None])
        at += size
    return state
