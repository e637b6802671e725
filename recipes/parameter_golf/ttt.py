"""Test-time training: the predictor goes on learning from what was revealed to it, which the rules allow.

It learns from a token only after it has predicted it. What it learns costs seconds of the evaluation's budget.
Left plain on purpose: it learns nothing.
"""

from typing import Annotated, Literal

import torch
from loss import loss
from parallel import precision
from torch import Tensor, nn

RATE: Annotated[float, "0..1"] = 0.0  # of SGD; AdamW takes a thirtieth; with 0 nothing is learnt
LEARN: Annotated[Literal["vectors", "embeddings", "last", "all"], "if RATE"] = "all"  # which weights go on learning
OPTIMIZER: Annotated[Literal["sgd", "adamw"], "if RATE"] = "sgd"
MOMENTUM: Annotated[float, "0..0.95", "if RATE"] = 0.0
PASSES: Annotated[Literal[1, 2, 3], "if RATE"] = 1  # over every window
MICRO = 96  # streams that fit a device at once, with what their gradients need


def chosen(model: nn.Module) -> list[Tensor]:
    """The weights that go on learning."""
    if RATE == 0.0:
        return []
    named = list(model.named_parameters())
    last = f"blocks.{max((int(name.split('.')[1]) for name, _ in named if name.startswith('blocks.')), default=0)}."
    if LEARN == "vectors":
        return [weight for _, weight in named if weight.dim() == 1]
    begins = {"embeddings": ("embed", "head"), "last": (last,), "all": ("",)}[LEARN]
    return [weight for name, weight in named if name.startswith(begins)]


class Learner:
    """Steps on a model between predictions."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.weights = model, chosen(model)
        if self.weights and OPTIMIZER == "adamw":
            self.optimizer = torch.optim.AdamW(self.weights, lr=RATE / 30, betas=(MOMENTUM, 0.99), weight_decay=0.0)
        elif self.weights:
            self.optimizer = torch.optim.SGD(self.weights, lr=RATE, momentum=MOMENTUM)

    def learn(self, history: Tensor, new: int) -> None:
        """Learn from the last `new` tokens of every stream's history (streams, T), all of them revealed."""
        if not self.weights or new < 1:
            return
        for _ in range(PASSES):
            for weight in self.weights:
                weight.grad = None
            for part in history.split(MICRO):
                self._add_gradients(part, new, len(part) / len(history))
            torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
            self.optimizer.step()

    @torch.enable_grad()
    def _add_gradients(self, history: Tensor, new: int, share: float) -> None:
        """Those of some streams, which are a share of all."""
        with precision():
            logits, _ = self.model(history[:, :-1])
        value, _ = loss(logits[:, -new:].float(), history[:, -new:])
        grads = torch.autograd.grad(value * share, self.weights, allow_unused=True)
        for weight, grad in zip(self.weights, grads, strict=True):
            if grad is not None:
                weight.grad = grad if weight.grad is None else weight.grad + grad
