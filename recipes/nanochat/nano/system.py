"""What the program runs on: device, processes, precision, compilation, and how a step is cut into smaller ones.

One process is the plain case. Of several each holds one device and a share of the batch, and gradients are averaged
(DistributedDataParallel). What is asked for and not there is an error with the command to type, never a silent
change.
Left plain on purpose at mini scale: one process, 32 bits, nothing compiled or cut into parts.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Annotated, Any, Literal

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

DEVICE = "cpu"  # or "cuda"
PROCESSES = 1  # that train together; 0 is one for each GPU
PRECISION: Literal["float32", "bfloat16"] = "float32"  # of the arithmetic; the weights stay float32
COMPILE: bool = False  # torch.compile; at mini scale it costs more than it gains
ACCUMULATE: Annotated[int, "1..4"] = 1  # parts that a step's batch is cut into
FUSED: bool = False  # one kernel for all of AdamW's arithmetic
FLUSH: bool = False  # numbers too small for full precision become 0: some CPUs are slow at them
SHARE_PROMPTS: bool = True  # predicting: rows with the same prompt are read once


BEGAN = float(
    os.environ.get("BEGAN", time.time())
)  # of several, the first; a process's own start is some tenths earlier


class System:
    """This process among all: `rank` of `world`, and its device."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        torch.set_flush_denormal(FLUSH)
        self.rank, self.world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if DEVICE == "cuda" and torch.cuda.device_count() <= local:
            raise SystemExit(
                f"process {local} needs a GPU of its own, and there are {torch.cuda.device_count()}; "
                "try: gitresearch init --recipe nanochat --scale mini"
            )
        self.device = torch.device(DEVICE, local if DEVICE == "cuda" else None)
        if DEVICE == "cuda":
            torch.cuda.set_device(self.device)
            torch.backends.cuda.matmul.allow_tf32 = True
        if self.world > 1:
            kind, meet = "nccl" if DEVICE == "cuda" else "gloo", os.environ.get("MEET", "env://")
            dist.init_process_group(kind, meet, rank=self.rank, world_size=self.world)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def arithmetic(self) -> Any:
        """The precision to compute in."""
        if PRECISION == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def spread(self, module: nn.Module) -> nn.Module:
        """The module to train with: compiled, and with gradients averaged over all processes."""
        made: Any = torch.compile(module) if COMPILE else module
        if self.world > 1:
            made = nn.parallel.DistributedDataParallel(made, device_ids=[self.device] if DEVICE == "cuda" else None)
        return made

    def report(self, step: int, total: int, loss: float) -> None:
        """Tell the evaluator how far the run is, so that a doomed one can end early; the total is the number of steps
        that will be reached, by count or by the clock."""
        if channel := os.environ.get("GITRESEARCH_PROGRESS"):
            os.write(int(channel), f"{step} {total} {loss:.4f}\n".encode())

    def told(self, what: Any) -> Any:
        """The first process's object, in every process."""
        box = [what]
        if self.world > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def agreed(self, stop: bool) -> bool:
        """Whether any process wants to stop: all of them stop at the same step."""
        if self.world == 1:
            return stop
        flag = torch.tensor(float(stop), device=self.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())

    def close(self) -> None:
        if self.world > 1:
            dist.destroy_process_group()


def together(train: Callable[[], None]) -> None:
    """Train in so many processes, in this one where one is enough. The first of several says how far they are."""
    if "RANK" in os.environ:  # torchrun made this one of several, and did not hand on the descriptor
        os.environ.pop("GITRESEARCH_PROGRESS", None)
    elif (world := PROCESSES or torch.cuda.device_count()) > 1:
        channel = os.environ.pop("GITRESEARCH_PROGRESS", "")
        told = Connection(int(channel), readable=False) if channel else None
        os.environ |= {"BEGAN": str(BEGAN), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
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


def without_averaging(module: nn.Module, *, last: bool) -> Any:
    """Gradients of all parts but the last are summed in the process alone."""
    if last or not isinstance(module, nn.parallel.DistributedDataParallel):
        return contextlib.nullcontext()
    return module.no_sync()
