"""Train from scratch within the budget and write the artefact.

    GITRESEARCH_DATA=… GITRESEARCH_ARTEFACT=… GITRESEARCH_SEED=1 GITRESEARCH_TRAIN_SECONDS=12 python train.py

The clock is this process's CPU time, as the evaluator's is: torch's import and the tokenizer count.
"""

import json
import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from data import batches, encode, learn_merges, make_tokenizer, read_text
from model import GPT
from optimizer import GRAD_CLIP, make_optimizers
from quantize import pack
from schedule import STEPS, STOP_AT, rate


def train() -> None:
    torch.set_num_threads(1)
    seed = int(os.environ["GITRESEARCH_SEED"])
    end = STOP_AT * float(os.environ["GITRESEARCH_TRAIN_SECONDS"])
    torch.manual_seed(seed)
    text = read_text()
    merges = learn_merges(text)
    tokens = encode(text, make_tokenizer(merges))
    model = GPT(256 + len(merges))
    optimizers = make_optimizers(model)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    supply = batches(tokens, model.vocab, torch.Generator().manual_seed(seed))
    begin = now = time.process_time()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokens):,} tokens, ready at {begin:.1f} s")
    step = seen = 0
    while step < STEPS and now < end:
        progress = max(step / STEPS, (now - begin) / max(end - begin, 1e-9))
        for optimizer, rates in zip(optimizers, peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = peak * rate(progress)
        inputs, targets = next(supply)
        logits, _ = model(inputs)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRAD_CLIP)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, seen, now = step + 1, seen + targets.numel(), time.process_time()
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.4f} at {now:.1f} s", flush=True)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss.item()} at step {step}")
    artefact = Path(os.environ["GITRESEARCH_ARTEFACT"])
    weights = pack(model.state_dict())
    (artefact / "weights.bin").write_bytes(weights)
    (artefact / "tokenizer.json").write_text(json.dumps({"merges": merges}, ensure_ascii=False, separators=(",", ":")))
    print(f"{step} steps, {seen:,} tokens seen, {len(weights):,} bytes of weights")


if __name__ == "__main__":
    train()
