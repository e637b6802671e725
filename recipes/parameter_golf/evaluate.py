"""The predictor: the next token's logits for many streams of text, given what came before.

It learns each token only after it has predicted it, so whatever it does with the past is fair, learning included.
Left plain on purpose: a context that is thrown away when it is full, no blending.
"""

from typing import Annotated, Literal

import torch
from model import GPT, MAX_LENGTH, Cache
from parallel import precision
from torch import Tensor
from ttt import Learner

CONTEXT: Literal[32, 64, 128, 192, 256] = 64  # tokens the model sees at most
KEEP: Annotated[float, "0..0.9"] = 0.0  # share of a full context that is read again to begin the next: a sliding window
TEMPERATURE: Annotated[float, "0.9..1.1"] = 1.0
CACHE_RATE: Annotated[float, "0..0.3"] = 0.0  # weight of the stream's own recent tokens, counted (Grave et al. 2017)
CACHE_DECAY: Annotated[float, "0.9..0.999", "if CACHE_RATE"] = 0.98  # how fast those counts fade


class Predictor:
    """Streams in step: `logits` predicts the next token of each, `observe` tells what it was."""

    def __init__(self, model: GPT, streams: int) -> None:
        self.model = model.eval()
        self.marks = torch.full((streams, 1), model.vocab, device=model.embed.weight.device)
        self.history = self.new = self.marks
        self.cache: Cache | None = None
        self.counts = torch.zeros(streams, model.vocab, device=self.marks.device)
        self.learner, self.known = Learner(model), 1  # tokens of the history that were learnt from

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Logits (streams, V) for the next token."""
        before = self.history[:, -self.new.shape[1] - 1] if self.cache else None
        with precision():
            out, self.cache = self.model(self.new, self.cache, before)
        last = out[:, -1].float() / TEMPERATURE
        if CACHE_RATE == 0.0:
            return last
        seen = self.counts / self.counts.sum(dim=1, keepdim=True).clamp_min(1e-9)
        weight = CACHE_RATE * (self.counts.sum(dim=1, keepdim=True) > 0.5)
        return ((1 - weight) * last.softmax(dim=1) + weight * seen).clamp_min(1e-12).log()

    @torch.no_grad()
    def observe(self, tokens: Tensor) -> None:
        """What the tokens (streams,) really were."""
        if CACHE_RATE > 0.0:
            self.counts *= CACHE_DECAY
            self.counts[torch.arange(len(tokens), device=tokens.device), tokens] += 1.0
        self.history = torch.cat([self.history, tokens[:, None]], dim=1)
        self.new = tokens[:, None]
        if self.history.shape[1] >= min(CONTEXT, MAX_LENGTH):
            # The window is full: begin again from the start mark and the share of it that is kept.
            self.learner.learn(self.history, self.history.shape[1] - self.known)
            kept = self.history[:, self.history.shape[1] - int(KEEP * (CONTEXT - 1)) :]
            self.history = self.new = torch.cat([self.marks, kept], dim=1)
            self.cache, self.known = None, self.history.shape[1]
