"""The schedule: how the learning rate moves while training goes from 0 to 1.

Left plain on purpose: a short warm-up and one cosine.
"""

import math
from typing import Annotated, Literal

SCHEDULE: Literal["constant", "cosine", "linear", "trapezoid"] = "cosine"
WARMUP: Annotated[float, "0..0.2"] = 0.05  # share of the training time
COOLDOWN: Annotated[float, "0.1..0.9", "if SCHEDULE == trapezoid"] = 0.4  # share of the training time; trapezoid only
FINAL: Annotated[float, "0..0.3", "if SCHEDULE != constant"] = 0.1  # the last learning rate over the highest


def rate(progress: float) -> float:
    """The learning rate's factor at a progress from 0 to 1."""
    if progress < WARMUP:
        return progress / WARMUP
    if SCHEDULE == "constant":
        return 1.0
    if SCHEDULE == "trapezoid":
        return FINAL + (1 - FINAL) * min(1.0, (1 - progress) / COOLDOWN)
    done = (progress - WARMUP) / (1 - WARMUP)
    if SCHEDULE == "linear":
        return 1 - (1 - FINAL) * done
    return FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * done))
