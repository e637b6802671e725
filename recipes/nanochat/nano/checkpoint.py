"""Weights to bytes and back: a line of JSON with names, shapes and one type, then the bytes. No pickle.

Left plain on purpose: one type for all, no quantiser. The cap leaves room.
"""

import json
import math
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from nano.tokenizer import Merges

STORED: Literal["float32", "float16"] = "float16"


def save(folder: Path, state: dict[str, Tensor], merges: Merges) -> int:
    """Write the artefact; how many bytes its weights take."""
    kind = getattr(torch, STORED)
    head = json.dumps({"type": STORED, "tensors": [[name, list(weight.shape)] for name, weight in state.items()]})
    with (folder / "weights.bin").open("wb") as out:
        out.write(head.encode() + b"\n")
        for weight in state.values():
            out.write(weight.detach().cpu().to(kind).contiguous().numpy().tobytes())
        size = out.tell()
    (folder / "tokenizer.json").write_text(json.dumps({"merges": merges}, ensure_ascii=False), "utf-8")
    return size


def load(folder: Path) -> dict[str, Tensor]:
    """The weights by name, in float32."""
    with (folder / "weights.bin").open("rb") as source:
        head = json.loads(source.readline())
        kind = getattr(torch, head["type"])
        state = {}
        for name, shape in head["tensors"]:
            data = bytearray(source.read(math.prod(shape) * kind.itemsize))
            state[name] = torch.frombuffer(data, dtype=kind).reshape(shape).float()
    return state
