"""The loss of each image, and which images the next epoch does without.

Left plain on purpose: cross-entropy over all images.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LOSS: Literal["cross_entropy", "squared", "focal"] = "cross_entropy"
SMOOTHING: Annotated[float, "0..0.4"] = 0.0  # probability spread over all classes
FOCUS: Annotated[float, "0.2..3", "if LOSS == focal"] = 1.0  # power of what the right class lacks (Lin et al. 2017)
SKIP_EASY: Annotated[float, "0..0.8"] = 0.0  # share of images, those of the lowest last loss, that an epoch leaves out


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss (N,) of each image."""
    logits = logits.float()
    if LOSS == "squared":
        target = F.one_hot(labels, logits.shape[1]).float()
        target = (1 - SMOOTHING) * target + SMOOTHING / logits.shape[1]
        return (logits - target).square().sum(1)
    entropy = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING, reduction="none")
    if LOSS == "focal":
        right = logits.softmax(1).gather(1, labels[:, None])[:, 0]
        return (1 - right).clamp_min(1e-6) ** FOCUS * entropy  # at 0 a power below 1 has no finite slope
    return entropy


def still_to_learn(last: Tensor) -> Tensor:
    """The images worth another look, by their last losses (N,): all but the easiest. Images that were never seen have
    an infinite loss and stay."""
    if not SKIP_EASY:
        return torch.arange(len(last))
    kept = max(round((1 - SKIP_EASY) * len(last)), int(last.isinf().sum()))
    return last.argsort(descending=True)[:kept]
