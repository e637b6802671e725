"""Train from scratch and write the weights.

    GITRESEARCH_DATA=… GITRESEARCH_ARTEFACT=… GITRESEARCH_SEED=1 python train.py

The evaluator's clock starts when the data comes (GITRESEARCH_READY): what comes before, torch's import among it, sees
made-up images. Without that it counts the whole process.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from augment import EARLY_RESOLUTION, EARLY_SHARE, RESOLUTION, SUBSET, augment, resize
from loss import losses, still_to_learn
from model import CHANNELS, CLASSES, WHITEN_BIAS_EPOCHS, Net
from optimizer import BATCH, EPOCHS, make_optimizers, rate
from regularize import Average
from speed import arithmetic, compiled, device, place
from torch import Tensor, nn

WARMUP_STEPS = 6


def read(device: torch.device) -> tuple[Tensor, Tensor]:
    """Training images (N, C, H, W) of bytes and their labels (N,), on the device."""
    folder = Path(os.environ["GITRESEARCH_DATA"])
    images, labels = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("images", "labels"))
    return images.to(device), labels.to(device).long()


def batches(last: Tensor, generator: torch.Generator) -> Iterator[tuple[int, Tensor]]:
    """The epoch and the indices (BATCH,) of each batch, for ever; what an epoch leaves over begins the next."""
    epoch, waiting = 0, torch.empty(0, dtype=torch.long)
    while True:
        chosen = still_to_learn(last).cpu()
        waiting = torch.cat([waiting, chosen[torch.randperm(len(chosen), generator=generator)]])
        while len(waiting) >= BATCH:
            yield epoch, waiting[:BATCH]
            waiting = waiting[BATCH:]
        epoch += 1


def fit(model: Net, net: nn.Module, images: Tensor, labels: Tensor, steps: int, seed: int, pace: float = 1.0) -> None:
    """So many steps on normalised images, at so much of every rate. `net` computes as the model does, and may be its
    compiled form."""
    generator = torch.Generator().manual_seed(seed)
    mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    last = torch.full((len(images),), torch.inf, device=images.device)
    optimizers, average, supply = make_optimizers(model), Average(model), batches(last, generator)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    model.train()
    for step in range(steps):
        progress = step / steps
        for optimizer, rates in zip(optimizers, peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = peak * rate(progress) * pace
        epoch, chosen = next(supply)
        chosen = chosen.to(images.device)
        shown = augment(images[chosen], mirrored[chosen], epoch, generator)
        with arithmetic():
            logits = net(resize(shown, EARLY_RESOLUTION) if progress < EARLY_SHARE else shown)
        each = losses(logits, labels[chosen])
        last[chosen] = each.detach()
        each.mean().backward()
        if model.whiten is not None and step * BATCH >= WHITEN_BIAS_EPOCHS * len(images):
            model.whiten.bias.grad = None
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average.update(model, step + 1, progress)
        if step % 20 == 19 or step + 1 == steps:
            report(step + 1, steps, each.mean().item())
    average.finish(model)
    if not torch.isfinite(last).any() or last.isnan().any():
        raise FloatingPointError("the loss is not finite")


def report(step: int, steps: int, loss: float) -> None:
    """Tell people, and the evaluator, which ends a run early that is certain to be too slow."""
    if step % 100 == 0:
        print(f"step {step} of {steps}, loss {loss:.4f}", flush=True)
    if "GITRESEARCH_PROGRESS" in os.environ:
        os.write(int(os.environ["GITRESEARCH_PROGRESS"]), f"{step} {steps} {loss:.4f}\n".encode())


def warm_up(model: Net, net: nn.Module, ready: int) -> None:
    """Compile and try out everything on made-up images, begin anew, say so, and wait for the data. The rates are
    0: what noise teaches is thrown away."""
    begin = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.randn(2 * BATCH, CHANNELS, RESOLUTION, RESOLUTION, device=device())
    fit(model, net, images, torch.arange(len(images), device=images.device) % CLASSES, WARMUP_STEPS, seed=0, pace=0.0)
    model.load_state_dict(begin)
    os.write(ready, b"1")
    os.read(ready, 1)


def train() -> None:
    seed = int(os.environ["GITRESEARCH_SEED"])
    torch.manual_seed(seed)
    model = place(Net())
    # In a smoke run the evaluator wants to see whether all of it works, and throws the weights away.
    smoke = "GITRESEARCH_SMOKE" in os.environ
    net = model if smoke else compiled(model)
    if "GITRESEARCH_READY" in os.environ:
        warm_up(model, net, int(os.environ["GITRESEARCH_READY"]))
        torch.manual_seed(seed)
    images, labels = read(device())
    if SUBSET < 1.0:
        some = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[: round(SUBSET * len(images))]
        images, labels = images[some.to(images.device)], labels[some.to(labels.device)]
    model.see(images)
    images = resize(model.normalise(images), RESOLUTION)
    steps = 3 if smoke else max(1, round(EPOCHS * len(images) / BATCH))
    fit(model, net, images, labels, steps, seed)
    torch.save(model.state_dict(), Path(os.environ["GITRESEARCH_ARTEFACT"]) / "weights.pt")
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {steps} steps of {BATCH} images")


if __name__ == "__main__":
    train()
