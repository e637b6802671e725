"""The network: a GPT. Every choice of architecture is a constant below, and each has its code here.

Shapes: B rows, T tokens, D = WIDTH, H = HEADS, G key and value heads, V tokens of vocabulary; token V marks the start.
With a cache, each row holds its own number of tokens: `places` says where a row's new tokens go.
Left plain on purpose at mini scale: learned positions, LayerNorm, GELU, full attention, nothing normalised or mixed.
"""

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH: Annotated[int, "32..256 step 16"] = 64  # D
DEPTH: Annotated[int, "1..6"] = 2  # blocks; at a fixed budget a deeper net takes fewer steps
HEADS: Literal[1, 2, 4, 8] = 4  # H; it must divide WIDTH
SHARED_BY: Literal[1, 2, 4, 8] = 1  # query heads to a key and value head: 1 is multi-head, from HEADS on multi-query
WINDOW: Annotated[Literal[8, 16, 32, 64], "if WINDOWS != L"] = 32  # tokens that a short layer attends to
WINDOWS: Literal["L", "SL", "SSSL"] = "L"  # short and long layers in turn; the last is always long
MLP_RATIO: Literal[1, 2, 3, 4] = 4  # hidden width of the feed-forward layer over D
ACTIVATION: Literal["gelu", "relu", "relu2", "silu", "swiglu"] = "gelu"  # relu2: So et al. 2021
NORM: Literal["layer", "rms", "rms_plain"] = "layer"  # rms_plain has no learned scale
EMBED_NORM: bool = False  # the embedding is normalised too
POSITION: Literal["learned", "rotary", "none"] = "learned"
QK_NORM: bool = False  # queries and keys of length sqrt(D/H) (Henry et al. 2020; without a learned scale)
TIED: bool = False  # one matrix for embedding and output (Press and Wolf 2017)
VALUES: Literal["own", "first", "embedded"] = "own"  # mixed with the first block's (ResFormer), or a table a token
SKIP: Literal["none", "embedding", "unet"] = "none"  # blocks also see the embedding, or their mirror in the first half
LOGIT_CAP: Literal[0, 10, 15, 30] = 0  # c·tanh(logits/c); 0 is off (Gemma 2)
LOGIT_BIAS: bool = False  # a learned number a token, added to its logit
INIT_STD: Annotated[float, "0.005..0.1 log"] = 0.02
ZERO_OUT: bool = False  # what a block adds is nothing at first
DROPOUT: Annotated[float, "0..0.2"] = 0.0
MAX_LENGTH = 256  # tokens in view at most, the start mark included; learned positions go so far, trained or not

Cache = list[tuple[Tensor, Tensor]]  # per block: keys and values (B, G, S, D/H), filled where a row has tokens


def groups() -> int:
    """Key and value heads, G."""
    return max(1, HEADS // SHARED_BY)


def check() -> None:
    """ValueError where the constants do not go together."""
    if WIDTH % HEADS or HEADS % groups() or (POSITION == "rotary" and WIDTH // HEADS % 2):
        raise ValueError(f"WIDTH {WIDTH}, HEADS {HEADS} and SHARED_BY {SHARED_BY} do not go together")


class RMSNorm(nn.Module):
    """x / rms(x) (Zhang and Sennrich 2019), with a learned scale or without."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.ones(width)) if NORM == "rms" else None

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (self.width,), self.weight, 1e-6)


def make_norm(width: int) -> nn.Module:
    return nn.LayerNorm(width) if NORM == "layer" else RMSNorm(width)


def rotate(x: Tensor, places: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021): channel pairs of x (B, H, T, D/H) turned by angles that grow with its places
    (B or 1, T), so that q·k depends on the distance alone."""
    half = x.shape[-1] // 2
    frequency = 10_000.0 ** (-torch.arange(half, dtype=torch.float32, device=x.device) / half)
    angle = places[:, None, :, None].float() * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def window_of(block: int) -> int:
    """How many tokens a block attends to; 0 is all."""
    return WINDOW if WINDOWS[block % len(WINDOWS)] == "S" and block + 1 < DEPTH else 0


def mask(places: Tensor, keys: int, window: int) -> Tensor:
    """Which of the keys (B or 1, 1, T, keys) a token at each place may see: none that comes later."""
    at = torch.arange(keys, device=places.device)
    distance = places[:, None, :, None] - at
    return (distance >= 0) & (distance < window) if window else distance >= 0


class Attention(nn.Module):
    """Causal attention; query heads may share keys and values (Ainslie et al. 2023)."""

    def __init__(self, block: int, vocab: int) -> None:
        super().__init__()
        self.groups, self.window, self.size = groups(), window_of(block), WIDTH // HEADS
        self.q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.kv = nn.Linear(WIDTH, 2 * self.groups * self.size, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        mixed = (VALUES == "first" and block > 0) or (VALUES == "embedded" and (DEPTH - block) % 2 == 1)
        self.mix = nn.Parameter(torch.tensor(0.5)) if mixed else None
        embedded = mixed and VALUES == "embedded"
        self.table = nn.Embedding(vocab + 1, self.groups * self.size) if embedded else None

    def forward(
        self, x: Tensor, places: Tensor, first: Tensor, tokens: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """What is added to x, and the new tokens' own values (B, G, T, D/H)."""
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, HEADS, self.size).transpose(1, 2)
        k, v = self.kv(x).view(batch, length, 2, self.groups, self.size).permute(2, 0, 3, 1, 4)
        own = v
        if self.mix is not None:
            other = first
            if self.table is not None:
                other = self.table(tokens).view(batch, length, self.groups, self.size).transpose(1, 2)
            v = v + self.mix * (other - v)
        if QK_NORM:
            q, k = F.rms_norm(q, (self.size,)), F.rms_norm(k, (self.size,))
        if POSITION == "rotary":
            q, k = rotate(q, places), rotate(k, places)
        y = self.attend(q, k, v, places, past)
        return self.out(y.transpose(1, 2).reshape(batch, length, WIDTH)), own

    def attend(self, q: Tensor, k: Tensor, v: Tensor, places: Tensor, past: tuple[Tensor, Tensor] | None) -> Tensor:
        """The values each query takes (B, H, T, D/H). New keys go into the cache at their places."""
        shared = SHARED_BY > 1
        if past is None and not self.window:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)
        if past is not None:
            index = places[:, None, :, None].expand(len(k), self.groups, -1, self.size)
            past[0].scatter_(2, index, k.to(past[0].dtype))
            past[1].scatter_(2, index, v.to(past[1].dtype))
            k, v = past[0].to(q.dtype), past[1].to(q.dtype)
        seen = mask(places, k.shape[2], self.window)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=shared)


class FeedForward(nn.Module):
    """Two layers with a non-linearity; swiglu gates (Shazeer 2020) with 2/3 of the width, for the same size."""

    def __init__(self) -> None:
        super().__init__()
        gated = ACTIVATION == "swiglu"
        hidden = MLP_RATIO * WIDTH * 2 // 3 if gated else MLP_RATIO * WIDTH
        self.up = nn.Linear(WIDTH, 2 * hidden if gated else hidden, bias=False)
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

    def __init__(self, number: int, vocab: int) -> None:
        super().__init__()
        self.norm1, self.attention = make_norm(WIDTH), Attention(number, vocab)
        self.norm2, self.mlp = make_norm(WIDTH), FeedForward()
        self.dropout = nn.Dropout(DROPOUT)

    def forward(
        self, x: Tensor, places: Tensor, first: Tensor, tokens: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        added, values = self.attention(self.norm1(x), places, first, tokens, past)
        x = x + self.dropout(added)
        return x + self.dropout(self.mlp(self.norm2(x))), values


class GPT(nn.Module):
    """Tokens (B, T) -> the state (B, T, D) after each; `logits` makes predictions of it."""

    def __init__(self, vocab: int) -> None:
        super().__init__()
        check()
        self.vocab = vocab
        self.embed = nn.Embedding(vocab + 1, WIDTH)
        self.position = nn.Embedding(MAX_LENGTH, WIDTH) if POSITION == "learned" else None
        self.embed_norm = make_norm(WIDTH) if EMBED_NORM else nn.Identity()
        self.blocks = nn.ModuleList(Block(i, vocab) for i in range(DEPTH))
        self.skips = nn.Parameter(torch.zeros(DEPTH)) if SKIP != "none" else None
        self.norm = make_norm(WIDTH)
        self.head = None if TIED else nn.Linear(WIDTH, vocab, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocab)) if LOGIT_BIAS else None
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                # Residual outputs start smaller, so that depth does not grow the variance (GPT-2).
                residual = name.endswith(("out.weight", "down.weight"))
                scale = 0.0 if ZERO_OUT and residual else 1 / math.sqrt(2 * DEPTH) if residual else 1.0
                nn.init.normal_(weight, std=INIT_STD * scale)

    def forward(self, tokens: Tensor, places: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """`places` (B, T): where the tokens stand in their rows; from 0 on where it is not given."""
        if places is None:
            places = torch.arange(tokens.shape[1], device=tokens.device)[None]
        x = self.embed(tokens)
        if self.position is not None:
            x = x + self.position(places)
        x = start = self.embed_norm(x)
        first = x  # of no use to the first block, which makes it
        outputs: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = self._skip(x, i, start, outputs)
            x, values = block(x, places, first, tokens, cache[i] if cache else None)
            first = values if i == 0 else first
            outputs.append(x)
        return self.norm(x)

    def _skip(self, x: Tensor, block: int, start: Tensor, outputs: list[Tensor]) -> Tensor:
        """What a block is given besides what the one before it gave, by a learned share that is 0 at first."""
        if self.skips is None or block == 0:
            return x
        mirror = DEPTH - 1 - block
        if SKIP == "embedding":
            return x + self.skips[block] * start
        return x + self.skips[block] * outputs[mirror] if mirror < block - 1 else x

    def logits(self, x: Tensor) -> Tensor:
        """Predictions (…, V) of the token after each state (…, D), in float32."""
        out = (self.head(x) if self.head is not None else F.linear(x, self.embed.weight[: self.vocab])).float()
        if self.bias is not None:
            out = out + self.bias
        return LOGIT_CAP * torch.tanh(out / LOGIT_CAP) if LOGIT_CAP else out

    def new_cache(self, rows: int, length: int, device: torch.device | str = "cpu") -> Cache:
        """An empty cache for so many rows and tokens."""
        shape = (rows, groups(), length, WIDTH // HEADS)
        return [(torch.zeros(shape, device=device), torch.zeros(shape, device=device)) for _ in self.blocks]
