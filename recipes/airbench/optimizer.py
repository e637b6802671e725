"""The optimiser: what is done with a gradient, how many there are, and how the rate moves meanwhile.

SGD's rate is per 1,024 images and for any momentum: rate · batch/1024 · (1 − m)/(2 − m), so that neither the batch nor
the momentum needs another rate (arXiv 2404.00498). The number of steps is fixed by EPOCHS, never by the clock, so that
accuracy is a matter of the seed and only the time one of the machine.
Left plain on purpose: SGD with momentum, small batches, whole epochs, one rate for all, a cosine.
"""

import math
from typing import Annotated, Any, Literal

import torch
from regularize import WEIGHT_DECAY
from torch import Tensor, nn

EPOCHS: Annotated[float, "0.4..4 step 0.1"] = 2.0
BATCH: Annotated[int, "32..1024 step 32"] = 128  # images a step
OPTIMIZER: Literal["sgd", "adamw", "muon", "lion"] = "sgd"
LEAN: Annotated[bool, "if OPTIMIZER in sgd muon"] = False  # a few lines of our own in place of torch.optim
LEARNING_RATE: Annotated[float, "1..40 log"] = 6.0  # SGD's; AdamW takes a 3000th of it, Lion a 20000th
MATRIX_RATE: Annotated[float, "0.01..0.5 log", "if OPTIMIZER == muon"] = 0.1  # of convolutions; the rest is SGD's
BIAS_RATE: Annotated[float, "1..64 log", "if OPTIMIZER in sgd muon"] = 1.0  # of batch norm, over that of the rest
MOMENTUM: Annotated[float, "0.6..0.97"] = 0.9  # AdamW's and Lion's first beta
BETA2: Annotated[float, "0.9..0.999", "if OPTIMIZER in adamw lion"] = 0.99  # AdamW's second moment, Lion's momentum
SCHEDULE: Literal["constant", "linear", "cosine"] = "cosine"  # after the warm-up
WARMUP: Annotated[float, "0..0.4"] = 0.1  # share of the steps
BEGIN: Annotated[float, "0..0.5", "if WARMUP"] = 0.0  # the first rate over the highest
FINAL: Annotated[float, "0..0.3", "if SCHEDULE != constant"] = 0.0  # the last rate over the highest


def rate(progress: float) -> float:
    """The rate's factor at a progress from 0 to 1."""
    if progress < WARMUP:
        return BEGIN + (1 - BEGIN) * progress / WARMUP
    left = (1 - progress) / (1 - WARMUP)
    shape = {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}[SCHEDULE]
    return FINAL + (1 - FINAL) * shape


def orthogonalise(update: Tensor, steps: int = 3) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: Newton-Schulz steps (Jordan et al. 2024, Muon)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update / (update.norm() + 1e-7)
    flip = x.shape[0] > x.shape[1]
    x = x.T if flip else x
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if flip else x


class Lean:
    """The least of an optimiser: groups of parameters, each with its rate and decay, and one rule for a parameter."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.param_groups = groups
        self.momenta: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    if p not in self.momenta:
                        self.momenta[p] = torch.zeros_like(p)
                    self.move(p, p.grad, self.momenta[p], group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def move(self, p: Tensor, grad: Tensor, momentum: Tensor, group: dict[str, Any]) -> None:
        """Change a parameter in place."""
        raise NotImplementedError


class Sgd(Lean):
    """SGD with Nesterov's momentum, in the order of torch.optim.SGD."""

    def move(self, p: Tensor, grad: Tensor, momentum: Tensor, group: dict[str, Any]) -> None:
        grad = grad.add(p, alpha=group["weight_decay"])
        momentum.mul_(MOMENTUM).add_(grad)
        p.add_(grad.add_(momentum, alpha=MOMENTUM), alpha=-group["lr"])


class Muon(Lean):
    """Momentum, orthogonalised: every direction of a filter bank (out, in·k·k) moves alike."""

    def move(self, p: Tensor, grad: Tensor, momentum: Tensor, group: dict[str, Any]) -> None:
        momentum.mul_(MOMENTUM).add_(grad)
        update = orthogonalise(grad.add(momentum, alpha=MOMENTUM).flatten(1)).view_as(p)
        # The length of a filter bank is held: only directions are learnt.
        p.mul_((len(p) ** 0.5) / (p.norm() + 1e-7)).add_(update, alpha=-group["lr"])


class Lion(Lean):
    """The sign of an interpolated momentum (Chen et al. 2023). Steps are of size lr, so it wants a smaller one."""

    def move(self, p: Tensor, grad: Tensor, momentum: Tensor, group: dict[str, Any]) -> None:
        update = momentum.lerp(grad, 1 - MOMENTUM).sign_()
        p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
        momentum.lerp_(grad, 1 - BETA2)


def make_optimizers(model: nn.Module) -> list[Any]:
    """One or two optimisers over what learns. WEIGHT_DECAY is a share per 1,024 images, whatever the rate."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    filters = [p for _, p in named if p.dim() == 4]
    norms = [p for name, p in named if "norm" in name]
    weights = [p for name, p in named if "norm" not in name and not (OPTIMIZER == "muon" and p.dim() == 4)]
    scale = BATCH / 1024
    if OPTIMIZER in ("adamw", "lion"):
        lr = LEARNING_RATE / (3000 if OPTIMIZER == "adamw" else 20_000)
        decays = (WEIGHT_DECAY * scale / lr, 0.0)
        groups = [{"params": p, "lr": lr, "weight_decay": w} for p, w in zip((weights, norms), decays, strict=True)]
        return [Lion(groups) if OPTIMIZER == "lion" else torch.optim.AdamW(groups, betas=(MOMENTUM, BETA2))]
    step = LEARNING_RATE * scale * (1 - MOMENTUM) / (2 - MOMENTUM)
    groups = [
        {"params": weights, "lr": step, "weight_decay": WEIGHT_DECAY / LEARNING_RATE},
        {"params": norms, "lr": step * BIAS_RATE, "weight_decay": WEIGHT_DECAY / (LEARNING_RATE * BIAS_RATE)},
    ]
    sgd = Sgd(groups) if LEAN else torch.optim.SGD(groups, lr=step, momentum=MOMENTUM, nesterov=True)
    return [Muon([{"params": filters, "lr": MATRIX_RATE}]), sgd] if OPTIMIZER == "muon" else [sgd]
