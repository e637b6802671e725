"""The optimiser: what is done with a gradient.

Left plain on purpose: AdamW for everything, one learning rate.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

OPTIMIZER: Literal["adamw", "muon", "lion", "sgd"] = "adamw"
LEARNING_RATE: Annotated[float, "3e-4..3e-2 log"] = 2e-3  # of AdamW, and of what Muon leaves to it
MATRIX_RATE: Annotated[float, "3e-3..1e-1 log"] = 2e-2  # of Muon, for the matrices inside the blocks
BETA1: Annotated[float, "0.8..0.98"] = 0.9
BETA2: Annotated[float, "0.9..0.999"] = 0.95
WEIGHT_DECAY: Annotated[float, "0..0.3"] = 0.1
GRAD_CLIP: Annotated[float, "0.1..10 log"] = 1.0


def orthogonalise(update: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: five Newton-Schulz steps (Jordan et al. 2024, Muon)."""
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

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
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

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                update = buffer.lerp(p.grad, 1 - BETA1).sign_()
                p.mul_(1 - group["lr"] * WEIGHT_DECAY).add_(update, alpha=-group["lr"])
                buffer.lerp_(p.grad, 1 - BETA2)


def make_optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """One or two optimisers over all parameters; matrices decay, vectors and tables of embeddings don't."""
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "blocks" in name]
    others = [p for name, p in model.named_parameters() if not (p.dim() == 2 and "blocks" in name)]
    if OPTIMIZER == "muon":
        adam = torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(BETA1, BETA2), weight_decay=0.0)
        return [Muon(matrices, lr=MATRIX_RATE), adam]
    if OPTIMIZER == "lion":
        return [Lion([*matrices, *others], lr=LEARNING_RATE / 5)]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    if OPTIMIZER == "sgd":
        return [torch.optim.SGD(groups, lr=50 * LEARNING_RATE, momentum=BETA1, nesterov=True)]
    return [torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(BETA1, BETA2))]
