"""Where it runs: one core, or one to eight GPUs with a process each.

The processes draw different windows and average their gradients, so that a step is the same step on any number of
them, up to rounding. What one of them decides by its clock all must decide alike: the longest time counts.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

DEVICE = "cpu"  # or "cuda"
PROCESSES = 1  # that train together; 0 is one for each GPU
CLOCK = "cpu"  # as the study's: CPU seconds of this process, or "wall"
_BEGAN = float(os.environ.get("BEGAN", time.monotonic()))  # of several processes, the one that started them


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


def together(train: Callable[[], None]) -> None:
    """Train in so many processes, in this one where one is enough. The first of several says how far they are."""
    if "RANK" in os.environ:  # torchrun made this one of several, and did not hand on the descriptor
        os.environ.pop("GITRESEARCH_PROGRESS", None)
    elif (world := PROCESSES or torch.cuda.device_count()) > 1:
        channel = os.environ.pop("GITRESEARCH_PROGRESS", "")
        told = Connection(int(channel), readable=False) if channel else None
        os.environ |= {"BEGAN": str(_BEGAN), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(_one, (world, f"file://{folder}/meet", told, train), world)
        return
    train()


def _one(rank: int, world: int, meet: str, told: Connection | None, train: Callable[[], None]) -> None:
    """Train as one of several processes."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "MEET": meet}
    if told is not None and rank == 0:
        os.environ["GITRESEARCH_PROGRESS"] = str(told.fileno())
    train()


def join() -> Team:
    """The team that `together` or torchrun made of this process, or this process alone."""
    place = device()
    if DEVICE == "cpu":
        torch.set_num_threads(1)
    else:
        torch.cuda.set_device(place)
    if "WORLD_SIZE" not in os.environ:
        return Team(device=place)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    meet = os.environ.get("MEET", "env://")
    dist.init_process_group("nccl" if DEVICE == "cuda" else "gloo", meet, rank=rank, world_size=world)
    return Team(rank, world, place)


def precision() -> contextlib.AbstractContextManager[object]:
    """bfloat16 for what gains by it, on a GPU; on a CPU float32."""
    return torch.autocast("cuda", torch.bfloat16) if DEVICE == "cuda" else contextlib.nullcontext()
