"""The schedule: how long is trained, and how the rates move meanwhile.

A fixed number of steps makes the score a matter of the seed, not of how fast the machine was that minute.
Left plain on purpose at mini scale: a short warm-up, one cosine, and steps that leave a margin for a slower core.
"""

import math
from typing import Annotated, Literal

SCHEDULE: Literal["constant", "cosine", "linear", "trapezoid"] = "cosine"
WARMUP: Annotated[float, "0..0.2"] = 0.05  # share of the steps
COOLDOWN: Annotated[float, "0.1..0.9", "if SCHEDULE == trapezoid"] = 0.4  # share of the steps; trapezoid only
FINAL: Annotated[float, "0..0.3", "if SCHEDULE != constant"] = 0.1  # the last rate over the highest
STEPS: Annotated[int, "100..1500 step 50"] = 300  # at most; what comes first, this or STOP_AT, ends training
STOP_AT: Annotated[float, "0.5..0.92"] = 0.9  # of the budget; what is left writes the artefact: a second and more


def rate(progress: float) -> float:
    """The rates' factor at a progress from 0 to 1."""
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
