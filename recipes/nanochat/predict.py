"""Predict for the evaluator: it sends prompts, takes logits for the next token of each, and only then tells the token.

A header line says vocabulary, number of batches and the logits' type. A batch is a line with its rows, the longest
prompt's length and its steps, then lengths (rows,) and prompts (rows, length) as int32, padded behind. For each step
logits (rows still going on, V) are given; then tokens (rows,) come, −1 for a row that has ended.
stdout carries logits and nothing else; what a library prints goes to stderr.
"""

import contextlib
import json
import math
import os
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from nano import checkpoint, system
from nano.model import GPT, MAX_LENGTH, Cache
from torch import Tensor


class Rows:
    """A batch of rows: reads their prompts once, then a token each at a time."""

    def __init__(self, model: GPT, prompts: Tensor, lengths: Tensor, steps: int) -> None:
        """`prompts` (rows, T), of which the first `lengths` (rows,) tokens count; the oldest go where T is too long."""
        self.model = model
        prompts, lengths = crop(prompts, lengths, MAX_LENGTH - steps)
        marked = torch.cat([torch.full((len(prompts), 1), model.vocab), prompts], dim=1)
        same = torch.arange(len(prompts))
        if system.SHARE_PROMPTS:
            both, same = torch.unique(torch.cat([lengths[:, None], marked], dim=1), dim=0, return_inverse=True)
            lengths, marked = both[:, 0], both[:, 1:]
        device = model.embed.weight.device
        cache = model.new_cache(len(marked), marked.shape[1] + steps, device)
        places = torch.arange(marked.shape[1])[None]
        states = model(marked.to(device), places.to(device), cache)
        # A prompt's last token stands at its length, behind the start mark. What lies behind it is padding: the next
        # tokens overwrite it, and none of them sees what stands later than itself.
        self.states = states[torch.arange(len(marked)), lengths][same]
        self.cache: Cache = [(keys[same], values[same]) for keys, values in cache]
        self.places = lengths[same]

    def logits(self) -> Tensor:
        """For the next token of each row (rows, V)."""
        return self.model.logits(self.states)

    def observe(self, tokens: Tensor) -> None:
        """What the tokens (rows,) really were; an ended row takes any."""
        self.places = self.places + 1
        device = self.model.embed.weight.device
        self.states = self.model(tokens[:, None].to(device), self.places[:, None].to(device), self.cache)[:, 0]


def crop(prompts: Tensor, lengths: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Prompts of at most `most` - 1 tokens (the start mark is one more): what is too much goes at the front."""
    over = (lengths - (most - 1)).clamp_min(0)
    if int(over.max()) == 0:
        return prompts, lengths
    index = (torch.arange(prompts.shape[1])[None] + over[:, None]).clamp_max(prompts.shape[1] - 1)
    return prompts.gather(1, index)[:, : max(0, most - 1)], lengths - over


def integers(source: BinaryIO, *shape: int) -> Tensor:
    """EOFError where the evaluator has hung up."""
    data = source.read(4 * math.prod(shape))
    if len(data) < 4 * math.prod(shape):
        raise EOFError
    return torch.from_numpy(np.frombuffer(data, dtype="<i4").astype(np.int64)).reshape(shape)


@torch.inference_mode()
def answer(model: GPT, machine: system.System, source: BinaryIO, out: BinaryIO, kind: str) -> None:
    """One batch."""
    line = source.readline()
    if not line:
        raise EOFError
    asked = json.loads(line)
    lengths = integers(source, asked["rows"])
    # The evaluator asks twice, and 0.01 nats between two answers is much less than bfloat16 can tell on a CPU.
    with machine.arithmetic() if system.DEVICE == "cuda" else contextlib.nullcontext():
        rows = Rows(model, integers(source, asked["rows"], asked["length"]), lengths, asked["steps"])
        alive = torch.ones(asked["rows"], dtype=torch.bool)
        for step in range(asked["steps"]):
            if step:
                tokens = integers(source, asked["rows"])
                alive = tokens >= 0
                rows.observe(tokens.clamp_min(0))
            out.write(rows.logits()[alive].float().cpu().numpy().astype(kind).tobytes())
            out.flush()


def predict() -> None:
    out = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(2, 1)
    source = sys.stdin.buffer
    header = json.loads(source.readline())
    machine = system.System()
    model = GPT(header["vocab"])
    model.load_state_dict(checkpoint.load(Path(os.environ["GITRESEARCH_ARTEFACT"])))
    model = model.to(machine.device).eval()
    kind = {"float32": "<f4", "float16": "<f2"}[header["dtype"]]
    # The evaluator hangs up when it has found something wrong, and says what: a traceback of ours would hide that.
    with contextlib.suppress(EOFError, BrokenPipeError):
        for _ in range(header["batches"]):
            answer(model, machine, source, out, kind)


if __name__ == "__main__":
    predict()
