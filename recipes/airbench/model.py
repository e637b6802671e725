"""The network: stages of 3×3 convolutions that halve the image, a pool over what is left, a linear layer.

Shapes: N images, C channels, H×W pixels, K classes. A stage is conv, pool, norm, activation, then CONVS − 1 more
convolutions, around which RESIDUAL leads a path. Pooling comes before norm and activation, which then see a quarter of
the pixels. Any image size goes through.
Left plain on purpose: no whitening, one strided convolution a stage, ReLU, PyTorch's own initial weights.
"""

from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from augment import RESOLUTION, resize
from regularize import DROPOUT
from torch import Tensor, nn

CHANNELS = 1  # C and K as the data has them; the scale decides
CLASSES = 10
STAGES: Literal[2, 3] = 3
WIDTH1: Annotated[int, "8..128 log step 8"] = 8  # channels of the first stage
WIDTH2: Annotated[int, "8..128 log step 8"] = 16
WIDTH3: Annotated[int, "8..128 log step 8", "if STAGES == 3"] = 32
CONVS: Literal[1, 2, 3] = 1  # convolutions a stage
RESIDUAL: Annotated[bool, "if CONVS != 1"] = False  # over the convolutions after a stage's first; needs CONVS of 2 or 3
STRIDE: Literal[1, 2] = 1  # of the very first convolution; 2 leaves a quarter of the pixels to all that follow
WHITEN: Literal[0, 2, 3] = 0  # kernel of a fixed first convolution by the patches' eigenvectors; 0 is none
WHITEN_BIAS_EPOCHS: Annotated[float, "0..5", "if WHITEN"] = 3.0  # how long that layer's bias learns
POOL: Literal["max", "avg", "stride"] = "stride"  # stride: the convolution itself leaves every other pixel out
HEAD: Literal["max", "avg", "flat"] = "flat"  # over the last stage's pixels; flat keeps them all
NORM: Literal["batch", "none"] = "batch"
NORM_SCALE: Annotated[bool, "if NORM"] = True  # whether batch norm learns scales beside its biases
NORM_MOMENTUM: Annotated[float, "0.05..0.6", "if NORM == batch"] = 0.1  # of running statistics
ACTIVATION: Literal["relu", "gelu", "silu", "leaky"] = "relu"
DIRAC: bool = False  # begin convolutions as the identity, as far as channels go (Zagoruyko and Komodakis 2017)
LOGIT_SCALE: Annotated[float, "0.05..2 log"] = 1.0

ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, "leaky": F.leaky_relu}


def patch_filters(images: Tensor, kernel: int) -> Tensor:
    """Filters (2·C·kernel², C, kernel, kernel) that whiten patches of images (N, C, H, W): the eigenvectors of the
    patches' covariance over the roots of their eigenvalues, and their negatives, for the activation cuts one side."""
    channels = images.shape[1]
    patches = F.unfold(images.float(), kernel).transpose(1, 2).reshape(-1, channels * kernel**2)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + 5e-4).sqrt()).T.reshape(-1, channels, kernel, kernel)
    return torch.cat([filters, -filters])


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3×3 convolution that keeps the size; without a bias where a norm follows."""
    made = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=NORM == "none")
    if DIRAC:
        with torch.no_grad():
            nn.init.dirac_(made.weight[:inputs])
    return made


def normaliser(width: int) -> nn.Module:
    if NORM == "none":
        return nn.Identity()
    made = nn.BatchNorm2d(width, momentum=NORM_MOMENTUM)
    made.weight.requires_grad_(NORM_SCALE)
    return made


class Stage(nn.Module):
    """(N, inputs, H, W) to (N, width, H/2, W/2)."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        first = convolution(inputs, width, 2 * stride if POOL == "stride" else stride)
        self.convs = nn.ModuleList([first, *(convolution(width, width) for _ in range(CONVS - 1))])
        self.norms = nn.ModuleList(normaliser(width) for _ in range(CONVS))

    def forward(self, x: Tensor) -> Tensor:
        activate, skip = ACTIVATIONS[ACTIVATION], None
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(x)
            if i == 0 and POOL != "stride" and x.shape[-1] > 1:
                x = F.max_pool2d(x, 2) if POOL == "max" else F.avg_pool2d(x, 2)
            x = norm(x)
            if skip is not None and i == CONVS - 1:
                x = x + skip
            x = activate(x)
            skip = x if RESIDUAL and i == 0 else skip
        return x


class Net(nn.Module):
    """Normalised images (N, C, H, W) to logits (N, K). Mean and spread of the pixels are kept with the weights."""

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        channels = CHANNELS
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("spread", torch.ones(channels, 1, 1))
        self.whiten = nn.Conv2d(channels, 2 * channels * WHITEN**2, WHITEN) if WHITEN else None
        if self.whiten is not None:
            self.whiten.weight.requires_grad_(False)
            channels = self.whiten.out_channels
            nn.init.zeros_(self.whiten.bias)
        widths = (channels, WIDTH1, WIDTH2, WIDTH3)[: STAGES + 1]
        self.stages = nn.Sequential(
            *(Stage(a, b, STRIDE if i == 0 else 1) for i, (a, b) in enumerate(pairwise(widths)))
        )
        # The last stage's side, for images of full size; larger or smaller ones are pooled to it.
        self.side = self._side(channels) if HEAD == "flat" else 1
        self.head = nn.Linear(widths[-1] * self.side**2, CLASSES, bias=False)

    @torch.inference_mode()
    def _side(self, channels: int) -> int:
        size = RESOLUTION - WHITEN + 1 if WHITEN else RESOLUTION
        return self.stages.eval()(torch.zeros(1, channels, size, size)).shape[-1]

    @torch.no_grad()
    def see(self, images: Tensor) -> None:
        """Take what is fixed from training images (N, C, H, W) of bytes: mean, spread, and the whitening filters."""
        some = images[:5000].float()
        self.mean.copy_(some.mean((0, 2, 3))[:, None, None])
        self.spread.copy_(some.std((0, 2, 3))[:, None, None])
        if self.whiten is not None:
            self.whiten.weight.copy_(patch_filters(resize(self.normalise(some), RESOLUTION), WHITEN))

    def normalise(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) / self.spread

    def forward(self, x: Tensor) -> Tensor:
        if self.whiten is not None:
            x = ACTIVATIONS[ACTIVATION](self.whiten(x))
        x = self.stages(x)
        if HEAD == "flat":
            x = (x if x.shape[-1] == self.side else F.adaptive_avg_pool2d(x, self.side)).flatten(1)
        else:
            # Not amax: compiled, it looked in 32 bits for what had been rounded to 16, and the gradient was no number.
            x = x.flatten(2).max(2).values if HEAD == "max" else x.mean((2, 3))
        return LOGIT_SCALE * self.head(F.dropout(x, DROPOUT, self.training))
