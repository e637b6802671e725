"""Where it runs: one core, or one to eight GPUs with a process each (`python -m torch.distributed.run train.py`).

The processes draw different windows and average their gradients, so that a step is the same step on any number of
them, up to rounding. What one of them decides by its clock all must decide alike: the longest time counts.
"""

import contextlib
import os
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

DEVICE = "cpu"  # or "cuda"
CLOCK = "cpu"  # as the study's: CPU seconds of this process, or "wall"
_BEGAN = time.monotonic()


@dataclass(frozen=True)
class Team:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"

    def average_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its mean over the team."""
        for weight in model.parameters() if self.world > 1 else ():
            if weight.grad is None:  # here nothing was learnt about it; elsewhere perhaps
                weight.grad = torch.zeros_like(weight)
            dist.all_reduce(weight.grad)
            weight.grad /= self.world

    def leave(self) -> None:
        if self.world > 1:
            dist.destroy_process_group()

    def seconds(self) -> float:
        """How long training has taken so far, the same on all."""
        spent = time.process_time() if CLOCK == "cpu" else time.monotonic() - _BEGAN
        if self.world == 1:
            return spent
        longest = torch.tensor(spent, dtype=torch.float64, device=self.device)
        dist.all_reduce(longest, dist.ReduceOp.MAX)
        return float(longest)


def device() -> str:
    """The device to compute on; SystemExit where it is not there."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise SystemExit("the recipe asks for a GPU and torch finds none; try: python -m torch.utils.collect_env")
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if DEVICE == "cuda" else DEVICE


def join() -> Team:
    """The team that torch.distributed.run made of this process, or this process alone."""
    place = device()
    if DEVICE == "cpu":
        torch.set_num_threads(1)
    else:
        torch.cuda.set_device(place)
    if "WORLD_SIZE" not in os.environ:
        return Team(device=place)
    dist.init_process_group("nccl" if DEVICE == "cuda" else "gloo")
    return Team(dist.get_rank(), dist.get_world_size(), place)


def precision() -> contextlib.AbstractContextManager[object]:
    """bfloat16 for what gains by it, on a GPU; on a CPU float32."""
    return torch.autocast("cuda", torch.bfloat16) if DEVICE == "cuda" else contextlib.nullcontext()
