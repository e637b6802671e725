"""The optimiser: what is done with a gradient.

Parameters fall into four groups with a rate each: matrices inside the blocks, embeddings, the output head, and scalars
(norms, biases, shares). Left plain on purpose at mini scale: AdamW for all, one rate, constant decay.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

OPTIMIZER: Literal["adamw", "muon", "lion"] = "adamw"  # of the matrices; Muon leaves the rest to AdamW
MATRIX_RATE: Annotated[float, "3e-4..1e-1 log"] = 2e-3  # Muon wants about ten times AdamW's
EMBED_RATE: Annotated[float, "3e-4..1e-1 log"] = 2e-3
HEAD_RATE: Annotated[float, "3e-4..1e-1 log"] = 2e-3
SCALAR_RATE: Annotated[float, "3e-4..1e-1 log"] = 2e-3
BETA1: Annotated[float, "0.8..0.98"] = 0.9
BETA2: Annotated[float, "0.9..0.999"] = 0.95
MOMENTUM: Annotated[float, "0.8..0.98", "if OPTIMIZER == muon"] = 0.95  # of Muon
NEWTON_SCHULZ: Annotated[Literal[3, 4, 5, 6], "if OPTIMIZER == muon"] = 5  # steps of Muon's orthogonalisation
WEIGHT_DECAY: Annotated[float, "0..0.3"] = 0.1  # of the matrices
DECAY: Literal["constant", "linear"] = "constant"  # linear: it fades to 0 over the training
GRAD_CLIP: Annotated[float, "0.1..10 log"] = 1.0


def orthogonalise(update: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: Newton-Schulz steps of fifth order (Jordan et al. 2024, Muon)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update / (update.norm() + 1e-7)
    flip = x.shape[0] > x.shape[1]
    x = x.T if flip else x
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if flip else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: every direction of a matrix moves alike."""

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - MOMENTUM)
                update = p.grad.lerp(buffer, MOMENTUM)  # Nesterov
                # bfloat16 is enough for the iteration where it is fast; the CPU is slower at it than at float32.
                update = orthogonalise(update.bfloat16() if update.is_cuda else update, NEWTON_SCHULZ).to(p.dtype)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


class Lion(torch.optim.Optimizer):
    """The sign of an interpolated momentum (Chen et al. 2023). Its steps are as large as the rate: it takes a fifth."""

    def __init__(self, params: Iterable[Any], lr: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                update = buffer.lerp(p.grad, 1 - BETA1).sign_()
                p.mul_(1 - group["lr"] / 5 * group["weight_decay"]).add_(update, alpha=-group["lr"] / 5)
                buffer.lerp_(p.grad, 1 - BETA2)


def groups_of(model: nn.Module) -> dict[str, list[Tensor]]:
    """Parameters by group."""
    found: dict[str, list[Tensor]] = {"matrix": [], "embed": [], "head": [], "scalar": []}
    for name, p in model.named_parameters():
        if p.dim() < 2:
            found["scalar"].append(p)
        elif "head." in name:
            found["head"].append(p)
        elif "embed." in name or "position." in name or "table." in name:
            found["embed"].append(p)
        else:
            found["matrix"].append(p)
    return found


def make_optimizers(model: nn.Module, *, fused: bool = False) -> list[torch.optim.Optimizer]:
    """One or two optimisers over all parameters; only matrices decay."""
    found = groups_of(model)
    rates = {"matrix": MATRIX_RATE, "embed": EMBED_RATE, "head": HEAD_RATE, "scalar": SCALAR_RATE}
    groups = [
        {"params": params, "lr": rates[name], "weight_decay": WEIGHT_DECAY if name == "matrix" else 0.0}
        for name, params in found.items()
        if params
    ]
    if OPTIMIZER == "lion":
        return [Lion(groups, lr=MATRIX_RATE)]
    if OPTIMIZER == "adamw":
        return [torch.optim.AdamW(groups, betas=(BETA1, BETA2), fused=fused)]
    rest = torch.optim.AdamW(groups[1:], betas=(BETA1, BETA2), fused=fused)
    return [Muon(found["matrix"], MATRIX_RATE, WEIGHT_DECAY), rest]


class Rates:
    """The groups' rates and decays, moved over the training by one factor."""

    def __init__(self, optimizers: list[torch.optim.Optimizer]) -> None:
        self.groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self.peaks = [(group["lr"], group["weight_decay"]) for group in self.groups]

    def set(self, factor: float, progress: float) -> None:
        """Take the schedule's factor, at a progress from 0 to 1."""
        for group, (rate, decay) in zip(self.groups, self.peaks, strict=True):
            group["lr"] = rate * factor
            group["weight_decay"] = decay * (1 - progress) if DECAY == "linear" else decay
