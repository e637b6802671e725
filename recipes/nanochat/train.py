"""Train from scratch within the budget and write the artefact.

    GITRESEARCH_DATA=… GITRESEARCH_ARTEFACT=… GITRESEARCH_SEED=1 GITRESEARCH_TRAIN_SECONDS=20 python train.py

With several GPUs each has a process of its own (system.PROCESSES).
The clock is the evaluator's kind: CPU seconds of this process, or the wall's where a GPU is held. All of it counts,
torch's import and the tokenizer too.
"""

import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from nano import checkpoint, data, schedule, system, tokenizer
from nano.model import GPT
from nano.optimizer import GRAD_CLIP, Rates, make_optimizers
from torch import Tensor, nn


def clock() -> float:
    return time.time() - system.BEGAN if system.DEVICE == "cuda" else time.process_time()


class Loss(nn.Module):
    """Mean cross-entropy: what is compiled, and what several processes average the gradients of."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.model.logits(self.model(inputs)).flatten(0, 1), targets.flatten())


def step_loss(loss: nn.Module, batch: tuple[Tensor, Tensor], machine: system.System) -> float:
    """Gradients of one step's batch, part by part; the loss."""
    parts = list(zip(*(side.to(machine.device).chunk(system.ACCUMULATE) for side in batch), strict=True))
    rows, total = len(batch[0]), 0.0
    for i, (inputs, targets) in enumerate(parts):
        with system.without_averaging(loss, last=i + 1 == len(parts)), machine.arithmetic():
            part = loss(inputs, targets) * (len(inputs) / rows)
            part.backward()
        total += float(part.detach())
    return total


def hurry() -> None:
    """Make it a smoke run, whose artefact is thrown away: the evaluator wants to see whether all of it works."""
    schedule.STEPS = 3
    tokenizer.TOKENIZER_BYTES = min(tokenizer.TOKENIZER_BYTES, 10_000_000)
    data.TEXT_BYTES = min(data.TEXT_BYTES, 10_000_000)


def train() -> None:
    machine = system.System()
    seed = int(os.environ["GITRESEARCH_SEED"])
    end = schedule.STOP_AT * float(os.environ["GITRESEARCH_TRAIN_SECONDS"])
    torch.manual_seed(seed)
    if "GITRESEARCH_SMOKE" in os.environ:
        hurry()
    files = data.paths()
    merges = machine.told(tokenizer.learn(data.sample(files)) if machine.first else None)
    supply = data.Supply(files, tokenizer.Cutter(merges), seed, machine.rank, machine.world)
    model = GPT(256 + len(merges)).to(machine.device)
    loss = machine.spread(Loss(model))
    optimizers = make_optimizers(model, fused=system.FUSED)
    rates = Rates(optimizers)
    begin = now = clock()
    if machine.first:
        size = sum(p.numel() for p in model.parameters())
        print(f"{size:,} parameters, {supply.left:,} tokens, ready at {begin:.1f} s", flush=True)
    step = 0
    while step < schedule.STEPS and not machine.agreed(now >= end):
        progress = max(step / schedule.STEPS, (now - begin) / max(end - begin, 1e-9))
        rates.set(schedule.rate(min(1.0, progress)), progress)
        found = step_loss(loss, supply.next(progress), machine)
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, now = step + 1, clock()
        if step % min(10, schedule.STEPS) == 0:
            done = max(step / schedule.STEPS, (now - begin) / max(end - begin, 1e-9))
            machine.report(step, max(step, round(step / done)), found)
        if step % min(50, schedule.STEPS) == 0:
            if machine.first:
                print(f"step {step} loss {found:.4f} at {now:.1f} s", flush=True)
            if not found < float("inf"):
                raise FloatingPointError(f"the loss is {found} at step {step}")
    if machine.first:
        size = checkpoint.save(Path(os.environ["GITRESEARCH_ARTEFACT"]), model.state_dict(), merges)
        print(f"{step} steps, {size:,} bytes of weights, {clock():.1f} s")
    machine.close()


if __name__ == "__main__":
    system.together(train)
