"""Train from scratch within the budget and write the artefact: the parts put together.

    GITRESEARCH_DATA=… GITRESEARCH_ARTEFACT=… GITRESEARCH_SEED=1 GITRESEARCH_TRAIN_SECONDS=12 python train.py

The clock is this process's CPU time at the small scale, as the evaluator's is: torch's import and the tokenizer count.
A fixed number of steps makes the score a matter of the seed, not of how fast the machine was that minute: with steps
counted by the clock alone, two runs of one seed beside a busy neighbour differed by 0.1 bpb.
Left plain on purpose: steps that leave a margin for a slower core.
"""

import json
import math
import os
from pathlib import Path
from typing import Annotated

import torch
from data import Supply, read_text
from loss import loss
from model import GPT
from optimizer import GRAD_CLIP, make_optimizers
from parallel import Team, join, precision, together
from quantize import pack, rounded
from regularize import Average
from schedule import rate
from shards import Shards
from tokenizer import VOCAB, encode, learn_merges, make_tokenizer
from torch import Tensor

STEPS: Annotated[int, "100..1500 step 50"] = 400  # at most; what comes first, this or STOP_AT, ends training
STOP_AT: Annotated[float, "0.8..0.92"] = 0.9  # of the budget; quantising and packing need what is left
TEXT = True  # the data is text, and the artefact brings its tokenizer; or token shards, whose tokenizer is given
MICRO = 96  # sequences that fit a device at once
COMPILE = False  # torch.compile: gained nothing at the small scale


def load() -> tuple[Tensor | Shards, list[tuple[str, str]], int, float]:
    """The training tokens, the tokenizer's merges, the size of the vocabulary, and bits per byte in a nat per token
    (of shards, whose text nobody has: bits per token)."""
    if not TEXT:
        return Shards(Path(os.environ["GITRESEARCH_DATA"])), [], VOCAB, 1 / math.log(2)
    text = read_text()
    merges = learn_merges(text)
    tokens = encode(text, make_tokenizer(merges))
    return tokens, merges, 256 + len(merges), len(tokens) / len(text.encode()) / math.log(2)


def learn(model: torch.nn.Module, inputs: Tensor, targets: Tensor, team: Team) -> tuple[float, float]:
    """Leave the gradients of a batch (B, T) in the model, averaged over the team; the loss of this process's part, and
    its nats per token."""
    total = nats = 0.0
    for part, wanted in zip(inputs.split(MICRO), targets.split(MICRO), strict=True):
        with precision():
            logits, _ = model(part.to(team.device))
        value, plain = loss(logits, wanted.to(team.device))
        share = len(part) / len(inputs)
        (value * share).backward()
        total, nats = total + value.item() * share, nats + plain.item() * share
    team.average_gradients(model)
    torch.nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
    return total, nats


def report(step: int, total: int, value: str = "") -> None:
    """Tell the evaluator how far the run is, and the bits per byte of late, so that a doomed one can end early. The
    total is the number of steps that will be reached: the clock may end training before STEPS."""
    if channel := os.environ.get("GITRESEARCH_PROGRESS"):
        os.write(int(channel), f"{step} {total} {value}".rstrip().encode() + b"\n")


def train() -> None:
    team = join()
    seed = int(os.environ["GITRESEARCH_SEED"])
    end = STOP_AT * float(os.environ["GITRESEARCH_TRAIN_SECONDS"])
    torch.manual_seed(seed)
    tokens, merges, vocab, bits = load()
    model = GPT(vocab).to(team.device)
    # In a smoke run the evaluator wants to see whether all of it works, and throws the artefact away.
    smoke = "GITRESEARCH_SMOKE" in os.environ
    run = torch.compile(model) if COMPILE and not smoke else model
    optimizers = make_optimizers(model)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    average, supply = Average(model), Supply(tokens, vocab, seed + team.rank, team.world)
    begin = now = team.seconds()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokens):,} tokens, ready at {begin:.1f} s")
    steps, every = (3, 1) if smoke else (STEPS, 50)
    step = seen = 0
    said: list[float] = []  # nats of the steps since the last report
    report(0, steps)
    while step < steps and now < end:
        progress = max(step / steps, (now - begin) / max(end - begin, 1e-9))
        for optimizer, rates in zip(optimizers, peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = peak * rate(progress)
        inputs, targets = supply.draw(progress)
        with rounded(model, progress):
            value, nats = learn(run, inputs, targets, team)
        said.append(nats)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average.add(progress)
        step, seen, now = step + 1, seen + targets.numel(), team.seconds()
        if step % min(every, 10) == 0:
            done = max(step / steps, (now - begin) / max(end - begin, 1e-9))
            report(step, max(step, round(step / done)), f"{bits * sum(said) / len(said):.4f}")
            said.clear()
        if step % every == 0:
            print(f"step {step} loss {value:.4f} at {now:.1f} s", flush=True)
            if not abs(value) < float("inf"):
                raise FloatingPointError(f"the loss is {value} at step {step}")
    print(f"{step} steps, {seen:,} tokens seen by each of {team.world}")
    if team.rank == 0:
        write(average.weights(), merges)
    team.leave()


def write(weights: dict[str, Tensor], merges: list[tuple[str, str]]) -> None:
    """Leave the artefact: the weights, and the tokenizer where it is our own."""
    artefact = Path(os.environ["GITRESEARCH_ARTEFACT"])
    data = pack(weights)
    (artefact / "weights.bin").write_bytes(data)
    if TEXT:
        tokenizer = json.dumps({"merges": merges}, ensure_ascii=False, separators=(",", ":"))
        (artefact / "tokenizer.json").write_text(tokenizer, "utf-8")
    print(f"{len(data):,} bytes of weights")


if __name__ == "__main__":
    together(train)
