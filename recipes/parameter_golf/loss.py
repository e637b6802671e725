"""The loss: what training makes small. The score is the plain mean of -log p, so anything else must earn its place.

Left plain on purpose: cross-entropy, every token alike.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LABEL_SMOOTHING: Annotated[float, "0..0.1"] = 0.0
Z_LOSS: Annotated[float, "0..1e-3"] = 0.0  # weight of log²Z, which keeps logits small (PaLM, Chowdhery et al. 2022)
FOCAL: Annotated[float, "0..1"] = 0.0  # tokens weigh (1 - p) to this power: less where they are known (Lin et al. 2017)
EARLY: Annotated[float, "0..1"] = 1.0  # weight of a window's first token, which has no context; 1 is reached by RAMP
RAMP: Annotated[Literal[8, 16, 32], "if EARLY != 1.0"] = 16  # tokens


def loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The mean loss of logits (B, T, V) for targets (B, T), and beside it the plain mean of -log p in nats, which the
    evaluator is told of as the run's progress: it must stay what it is."""
    flat = logits.flatten(0, 1).float()
    each = nats = F.cross_entropy(flat, targets.flatten(), reduction="none")
    if LABEL_SMOOTHING > 0.0:
        each = (1 - LABEL_SMOOTHING) * nats + LABEL_SMOOTHING * (flat.logsumexp(dim=1) - flat.mean(dim=1))
    if FOCAL > 0.0:
        each = each * (1 - (-each.detach()).exp()).clamp_min(0.0) ** FOCAL
    if EARLY < 1.0:
        place = torch.arange(targets.shape[1], device=logits.device) / RAMP
        each = each.view_as(targets) * (EARLY + (1 - EARLY) * place).clamp_max(1.0)
    total = each.mean()
    total = total + Z_LOSS * flat.logsumexp(dim=1).square().mean() if Z_LOSS > 0.0 else total
    return total, nats.detach().mean()
