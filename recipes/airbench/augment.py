"""The images as the network sees them: how many, how large, and changed how, in training and in prediction.

Images are (N, C, H, W). Every choice at random is drawn from the run's seed.
Left plain on purpose: every image at its full size, as it is.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SUBSET: Annotated[float, "0.1..1"] = 1.0  # share of the training images that are used at all
RESOLUTION: Annotated[int, "10..28 step 2"] = 28  # pixels a side, in training and in prediction
EARLY_RESOLUTION: Annotated[int, "10..28 step 2", "if EARLY_SHARE"] = 20  # of the first steps: coarse images are cheap
EARLY_SHARE: Annotated[float, "0..0.9"] = 0.0  # of the steps
FLIP: Literal["none", "random", "alternating"] = "none"  # alternating: each epoch the other side of each image
SHIFT: Annotated[int, "0..4"] = 0  # pixels at most, each way
CUTOUT: Annotated[int, "0..16 step 2"] = 0  # side of a square that is blanked (DeVries and Taylor 2017)
TTA: Literal["none", "flip", "crops"] = "none"  # predict from the mirror image too; crops: and from shifted ones


def resize(images: Tensor, size: int) -> Tensor:
    """Images of size × size pixels, each the mean of what it covers."""
    return images if images.shape[-1] == size else F.interpolate(images, (size, size), mode="area")


def shift(images: Tensor, rows: Tensor, columns: Tensor, reach: int) -> Tensor:
    """Each image moved by its own number of pixels, from 0 to 2·reach where reach is in place; edges are mirrored."""
    height, width = images.shape[2:]
    windows = F.pad(images, (reach,) * 4, mode="reflect").unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(images), device=images.device), :, rows, columns]


def cut_out(images: Tensor, generator: torch.Generator) -> Tensor:
    """A square of each image set to the mean pixel, which is 0; it lies within the image."""
    height, width = images.shape[2:]
    top, left = (
        torch.randint(max(1, side - CUTOUT + 1), (len(images), 1), generator=generator).to(images.device)
        for side in (height, width)
    )
    rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    inside_rows = (rows >= top) & (rows < top + CUTOUT)
    inside_columns = (columns >= left) & (columns < left + CUTOUT)
    return images.masked_fill((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], 0.0)


def augment(images: Tensor, mirrored: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
    """A batch as this epoch shows it. `mirrored` (N,) is a truth value of each image that was drawn once."""
    if FLIP != "none":
        flip = mirrored ^ bool(epoch % 2)
        if FLIP == "random":
            flip = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
    if SHIFT:
        moves = torch.randint(2 * SHIFT + 1, (2, len(images)), generator=generator).to(images.device)
        images = shift(images, moves[0], moves[1], SHIFT)
    return cut_out(images, generator) if CUTOUT else images


def views(images: Tensor) -> list[tuple[float, Tensor]]:
    """What is predicted from, with weights that sum to one: the image, its mirror image, both moved by a pixel."""
    if TTA == "none":
        return [(1.0, images)]
    if TTA == "flip":
        return [(0.5, images), (0.5, images.flip(3))]
    corners = [F.pad(images, (1,) * 4, mode="reflect")[..., at:, at:] for at in (0, 2)]
    corners = [corner[..., : images.shape[2], : images.shape[3]] for corner in corners]
    weighed = [(0.25, images), *((0.125, corner) for corner in corners)]
    return [(weight, view) for weight, seen in weighed for view in (seen, seen.flip(3))]


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """The class (N,) of each image."""
    return sum(weight * model(view).float() for weight, view in views(images)).argmax(1)
