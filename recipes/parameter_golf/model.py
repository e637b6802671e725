"""The network: a small GPT. Every choice of architecture is a constant below.

Shapes: B sequences, T tokens, D = WIDTH, H = HEADS, G = heads of keys and values, V tokens of vocabulary.
Left plain on purpose: learned positions, LayerNorm, GELU, every block its own, no normalised queries, no soft cap.
"""

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from regularize import DROPOUT, dropped
from torch import Tensor, nn

WIDTH: Annotated[int, "32..160 step 16"] = 64  # D; bytes grow with D·V and with D²·DEPTH
DEPTH: Annotated[int, "1..6"] = 2  # blocks; at this budget a deeper net takes fewer steps
HEADS: Literal[1, 2, 4, 8] = 4
KV_HEADS: Literal[1, 2, 4, 8] = 8  # at most HEADS; fewer are shared by several queries (Ainslie et al. 2023)
LOOPS: Literal[1, 2, 3] = 1  # times the blocks are gone through: depth without bytes (Dehghani et al. 2019)
SKIPS: bool = False  # the second half of the depth also sees what the first half saw (U-Net, Ronneberger et al. 2015)
MLP_RATIO: Literal[1, 2, 3, 4] = 3  # hidden width of the feed-forward layer over D
ACTIVATION: Literal["gelu", "relu", "relu2", "silu", "swiglu"] = "gelu"
NORM: Literal["layer", "rms"] = "layer"
POSITION: Literal["learned", "rotary", "none"] = "learned"
QK_NORM: bool = False  # unit-length queries and keys with a learned scale (Henry et al. 2020)
TIED: bool = True  # one matrix for embedding and output (Press and Wolf 2017)
PARALLEL: bool = False  # attention and feed-forward side by side (GPT-J)
TOKEN_SHIFT: bool = False  # each position also sees its predecessor's embedding, gated a channel (RWKV)
LOGIT_CAP: Literal[0, 10, 15, 30] = 0  # c·tanh(logits/c); 0 is off (Gemma 2)
INIT_STD: Annotated[float, "0.005..0.1 log"] = 0.02
MAX_LENGTH = 256  # learned positions up to here; the predictor starts its window again by then

Cache = list[tuple[Tensor, Tensor]]  # for each time a block is gone through: keys and values (B, G, T, D/H)


class RMSNorm(nn.Module):
    """x / rms(x) with a learned scale (Zhang and Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


def make_norm(width: int) -> nn.Module:
    return RMSNorm(width) if NORM == "rms" else nn.LayerNorm(width)


def rotate(x: Tensor, start: int) -> Tensor:
    """Rotary positions (Su et al. 2021): channel pairs of x (B, H, T, D/H) turned by angles that grow with position."""
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-torch.arange(half, dtype=torch.float32, device=x.device) / half)
    angle = torch.arange(start, start + x.shape[-2], dtype=torch.float32, device=x.device)[:, None] * frequency
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half : 2 * half]
    return torch.cat([a * cos - b * sin, a * sin + b * cos, x[..., 2 * half :]], dim=-1).to(x.dtype)


class Attention(nn.Module):
    """Causal attention with grouped heads; with a cache, x holds only the new positions."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = min(KV_HEADS, HEADS)
        self.qkv = nn.Linear(WIDTH, (HEADS + 2 * self.groups) * (WIDTH // HEADS), bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.scale = nn.Parameter(torch.full((HEADS, 1, 1), math.log(8.0))) if QK_NORM else None

    def forward(
        self, x: Tensor, start: int, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch, length, _ = x.shape
        heads = self.qkv(x).view(batch, length, -1, WIDTH // HEADS).transpose(1, 2)
        q, k, v = heads.split([HEADS, self.groups, self.groups], dim=1)
        if self.scale is not None:
            # The softmax scale 1/sqrt(D/H) is applied below; undo it so that the learned scale stands alone.
            q = F.normalize(q, dim=-1) * self.scale.exp() * math.sqrt(WIDTH // HEADS)
            k = F.normalize(k, dim=-1)
        if POSITION == "rotary":
            q, k = rotate(q, start), rotate(k, start)
        q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast norms and angles are in 32 bits, and so was the cache
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        present, shared = (k, v), HEADS // self.groups
        if shared > 1:
            k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=length > 1)
        return self.out(y.transpose(1, 2).reshape(batch, length, WIDTH)), present


class FeedForward(nn.Module):
    """Two layers with a non-linearity; swiglu gates (Shazeer 2020) with 2/3 of the width, for the same size."""

    def __init__(self) -> None:
        super().__init__()
        hidden = MLP_RATIO * WIDTH * 2 // 3 if ACTIVATION == "swiglu" else MLP_RATIO * WIDTH
        self.up = nn.Linear(WIDTH, 2 * hidden if ACTIVATION == "swiglu" else hidden, bias=False)
        self.down = nn.Linear(hidden, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        if ACTIVATION == "swiglu":
            gate, x = x.chunk(2, dim=-1)
            return self.down(F.silu(gate) * x)
        if ACTIVATION == "relu2":
            return self.down(F.relu(x).square())
        return self.down({"gelu": F.gelu, "relu": F.relu, "silu": F.silu}[ACTIVATION](x))


class Block(nn.Module):
    """Pre-norm residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attention = make_norm(WIDTH), Attention()
        self.norm2, self.mlp = make_norm(WIDTH), FeedForward()
        self.dropout = nn.Dropout(DROPOUT)

    def forward(
        self, x: Tensor, start: int, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attended, present = self.attention(self.norm1(x), start, past)
        if PARALLEL:
            return x + self.dropout(attended) + self.dropout(self.mlp(self.norm2(x))), present
        x = x + self.dropout(attended)
        return x + self.dropout(self.mlp(self.norm2(x))), present


class GPT(nn.Module):
    """Tokens (B, T) -> logits (B, T, V). Token V is the start mark: every sequence begins with it."""

    def __init__(self, vocab: int) -> None:
        super().__init__()
        self.vocab = vocab
        self.embed = nn.Embedding(vocab + 1, WIDTH)
        self.position = nn.Embedding(MAX_LENGTH, WIDTH) if POSITION == "learned" else None
        self.shift = nn.Parameter(torch.zeros(WIDTH)) if TOKEN_SHIFT else None
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.skips = nn.Parameter(torch.ones(DEPTH * LOOPS // 2)) if SKIPS else None
        self.norm = make_norm(WIDTH)
        self.head = None if TIED else nn.Linear(WIDTH, vocab, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                # Residual outputs start smaller, so that depth does not grow the variance (GPT-2).
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=INIT_STD / math.sqrt(2 * DEPTH * LOOPS) if residual else INIT_STD)

    def forward(self, tokens: Tensor, past: Cache | None = None, last: Tensor | None = None) -> tuple[Tensor, Cache]:
        """Logits for the token after each position, and the cache. `last` (B,): the token before these, if cached."""
        start = past[0][0].shape[2] if past else 0
        x = self.embed(tokens)
        if self.shift is not None:
            before = tokens.roll(1, dims=1)
            before[:, 0] = self.vocab if last is None else last
            x = x + self.shift * self.embed(before)
        if self.position is not None:
            x = x + self.position.weight[start : start + tokens.shape[1]]
        x, cache = self._blocks(x, start, past)
        x = self.norm(x)
        logits = self.head(x) if self.head is not None else F.linear(x, self.embed.weight[: self.vocab])
        return (LOGIT_CAP * torch.tanh(logits / LOGIT_CAP) if LOGIT_CAP else logits), cache

    def _blocks(self, x: Tensor, start: int, past: Cache | None) -> tuple[Tensor, Cache]:
        """x (B, T, D) after all blocks, each LOOPS times."""
        cache, seen, depth = [], [], DEPTH * LOOPS
        for i in range(depth):
            if self.skips is not None and i >= depth - depth // 2:
                x = x + self.skips[depth - 1 - i] * seen.pop()
            elif i < depth // 2:
                seen.append(x)
            if self.training and dropped((i + 1) / depth):
                continue
            x, present = self.blocks[i % DEPTH](x, start, past[i] if past else None)
            cache.append(present)
        return x, cache
