"""The schedule: how long is trained, and how the learning rate moves meanwhile.

A fixed number of steps makes the score a matter of the seed, not of how fast the machine was that minute: with steps
counted by the clock alone, two runs of one seed beside a busy neighbour differed by 0.1 bpb.
Left plain on purpose: a short warm-up, one cosine, and steps that leave a margin for a slower core.
"""

import math
from typing import Annotated, Literal

SCHEDULE: Literal["constant", "cosine", "linear", "trapezoid"] = "cosine"
WARMUP: Annotated[float, "0..0.2"] = 0.05  # share of the training time
COOLDOWN: Annotated[float, "0.1..0.9"] = 0.4  # share of the training time; trapezoid only
FINAL: Annotated[float, "0..0.3"] = 0.1  # the last learning rate over the highest
STEPS: Annotated[int, "100..1500 step 50"] = 400  # at most; what comes first, this or STOP_AT, ends training
STOP_AT: Annotated[float, "0.5..0.97"] = 0.9  # of the budget; quantising and packing need what is left


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
