"""Regularisation: what keeps the network from learning its text by heart, and which average of its weights is kept.

Left plain on purpose: some weight decay, nothing dropped, the last weights.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

WEIGHT_DECAY: Annotated[float, "0..0.3"] = 0.1  # of the blocks' matrices
DROPOUT: Annotated[float, "0..0.2"] = 0.0
DROP_BLOCK: Annotated[float, "0..0.3"] = 0.0  # stochastic depth: of the last block, of earlier ones less (Huang 2016)
AVERAGE: Literal["none", "ema", "tail"] = "none"  # the last weights, a moving average, or the mean over the tail
DECAY: Annotated[float, "0.9..0.999", "if AVERAGE == ema"] = 0.98  # of the moving average, a step
TAIL: Annotated[float, "0.05..0.5", "if AVERAGE == tail"] = 0.2  # share of the training (Izmailov et al. 2018)


def dropped(place: float) -> bool:
    """Whether a block at a place from 0 to 1 of the depth is left out of this step."""
    return DROP_BLOCK > 0.0 and bool(torch.rand(()) < DROP_BLOCK * place)


class Average:
    """Weights averaged over steps."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.kept: dict[str, Tensor] = {}
        self.count = 0

    @torch.no_grad()
    def add(self, progress: float) -> None:
        """Take the weights as they are now in."""
        if AVERAGE == "none" or (AVERAGE == "tail" and progress < 1 - TAIL):
            return
        self.count += 1
        weight = 1 / self.count if AVERAGE == "tail" else max(1 - DECAY, 1 / self.count)
        for name, value in self.model.state_dict().items():
            self.kept.setdefault(name, value.clone()).lerp_(value, weight)

    def weights(self) -> dict[str, Tensor]:
        return self.kept or self.model.state_dict()
