"""Where and how the arithmetic is done: device, number format, memory order, compiling.

Left plain on purpose: 32 bits, PyTorch's default memory order.
"""

import contextlib
from typing import Literal

import torch
from torch import nn

DEVICE = "cpu"  # or cuda; the scale decides, so this is no lever
COMPILE = False  # torch.compile; it pays where a warm-up before the clock takes the wait, and takes minutes elsewhere
PRECISION: Literal["float32", "bfloat16"] = "float32"  # bfloat16: products in 16 bits, weights and sums in 32
CHANNELS_LAST: bool = False  # a pixel's channels side by side


def device() -> torch.device:
    """The device that the constants name. Exits where it is not there: a slow run on another would be a wrong score."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this recipe asks for a GPU and there is none; try: gitresearch init --recipe airbench")
    if DEVICE == "cpu":
        torch.set_num_threads(1)  # with a busy neighbour, two threads are many times slower than one
    else:
        torch.backends.cudnn.benchmark = True  # shapes are fixed, so trying the algorithms pays
    return torch.device(DEVICE)


def place(model: nn.Module) -> nn.Module:
    """The model on its device, in its memory order."""
    model = model.to(device())
    return model.to(memory_format=torch.channels_last) if CHANNELS_LAST else model


def compiled(model: nn.Module) -> nn.Module:
    """The model, compiled where that is asked for."""
    return torch.compile(model) if COMPILE else model


def arithmetic() -> contextlib.AbstractContextManager[object]:
    """The number format of forward passes."""
    if PRECISION == "float32":
        return contextlib.nullcontext()
    return torch.autocast(DEVICE, dtype=torch.bfloat16)
