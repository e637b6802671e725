"""The optimiser: what is done with a gradient.

Left plain on purpose: AdamW for everything, one learning rate.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from regularize import WEIGHT_DECAY
from torch import Tensor, nn

OPTIMIZER: Literal["adamw", "muon", "lion", "sgd"] = "adamw"
LEARNING_RATE: Annotated[float, "5e-4..1e-2 log"] = 2e-3  # of AdamW, and of what Muon leaves to it
MATRIX_RATE: Annotated[float, "3e-3..1e-1 log", "if OPTIMIZER == muon"] = 2e-2  # for the matrices inside the blocks
EMBED_FACTOR: Annotated[float, "0.2..5 log"] = 1.0  # the learning rate of embeddings and output over the others'
MOMENTUM: Annotated[float, "0.8..0.98", "if OPTIMIZER == muon"] = 0.95  # of Muon
BETA1: Annotated[float, "0.8..0.98"] = 0.9
BETA2: Annotated[float, "0.9..0.999", "if OPTIMIZER != sgd"] = 0.95
GRAD_CLIP: Annotated[float, "0.1..10 log"] = 1.0


def orthogonalise(update: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: five Newton-Schulz steps (Jordan et al. 2024, Muon)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update.bfloat16() if update.is_cuda else update
    x = x / (x.norm() + 1e-7)
    flip = x.shape[0] > x.shape[1]
    x = x.T if flip else x
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if flip else x).to(update.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: every direction of a matrix moves alike."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = MOMENTUM) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalise(p.grad.lerp(buffer, group["momentum"]))
                p.mul_(1 - group["lr"] * WEIGHT_DECAY)
                p.add_(update, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


class Lion(torch.optim.Optimizer):
    """The sign of an interpolated momentum (Chen et al. 2023). Steps are of size lr, so it wants a smaller one."""

    def __init__(self, params: Iterable[Any], lr: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": WEIGHT_DECAY})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                update = buffer.lerp(p.grad, 1 - BETA1).sign_()
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
                buffer.lerp_(p.grad, 1 - BETA2)


def make_optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """One or two optimisers over three groups: the blocks' matrices, which decay; embeddings and output; vectors."""
    groups: dict[str, list[Tensor]] = {"matrices": [], "tables": [], "vectors": []}
    for name, weight in model.named_parameters():
        matrix = weight.dim() == 2
        groups["matrices" if matrix and "blocks" in name else "tables" if matrix else "vectors"].append(weight)
    rate = LEARNING_RATE * {"lion": 0.2, "sgd": 50.0}.get(OPTIMIZER, 1.0)  # what suits AdamW, in their units
    matrices = {"params": groups["matrices"], "lr": rate, "weight_decay": WEIGHT_DECAY}
    others = [
        {"params": groups["tables"], "lr": rate * EMBED_FACTOR, "weight_decay": 0.0},
        {"params": groups["vectors"], "lr": rate, "weight_decay": 0.0},
    ]
    if OPTIMIZER == "muon":
        adam = torch.optim.AdamW(others, betas=(BETA1, BETA2))
        return [Muon(groups["matrices"], lr=MATRIX_RATE), adam]
    if OPTIMIZER == "lion":
        return [Lion([matrices, *others], lr=rate)]
    if OPTIMIZER == "sgd":
        return [torch.optim.SGD([matrices, *others], momentum=BETA1, nesterov=True)]
    return [torch.optim.AdamW([matrices, *others], betas=(BETA1, BETA2))]
