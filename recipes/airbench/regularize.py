"""What keeps the network from fitting noise: decay, dropout, averages of its weights over steps.

Left plain on purpose: a little decay, no average.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

WEIGHT_DECAY: Annotated[float, "1e-4..0.1 log"] = 0.005  # share per 1,024 images, apart from the learning rate
DROPOUT: Annotated[float, "0..0.5"] = 0.0  # before the last layer
AVERAGE: Literal["none", "ema", "lookahead"] = "none"  # lookahead also steps back to its average (Zhang et al. 2019)
AVERAGE_EVERY: Annotated[int, "1..20", "if AVERAGE"] = 5  # steps
AVERAGE_DECAY: Annotated[float, "0.8..0.99", "if AVERAGE"] = 0.95  # a step; of lookahead, at the end


class Average:
    """A slow copy of all a model's floats."""

    def __init__(self, model: nn.Module) -> None:
        self.slow = {name: value.clone() for name, value in self._floats(model)} if AVERAGE != "none" else {}
        self.updates = 0

    @staticmethod
    def _floats(model: nn.Module) -> list[tuple[str, Tensor]]:
        return [(name, value) for name, value in model.state_dict().items() if value.is_floating_point()]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int, progress: float) -> None:
        """After step number `step`, counted from 1."""
        if AVERAGE == "none" or step % AVERAGE_EVERY:
            return
        self.updates += 1
        decay = AVERAGE_DECAY**AVERAGE_EVERY
        # Of the other a plain mean at first, or what it began with, the untrained weights, would stay in it.
        new = 1 - decay * progress**3 if AVERAGE == "lookahead" else max(1 - decay, 1 / self.updates)
        for name, value in self._floats(model):
            self.slow[name].lerp_(value, new)
            if AVERAGE == "lookahead":
                value.copy_(self.slow[name])

    def finish(self, model: nn.Module) -> None:
        """The average becomes the model."""
        if self.updates:
            model.load_state_dict(self.slow, strict=False)
