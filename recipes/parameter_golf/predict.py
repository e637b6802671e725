"""Predict for the evaluator: it sends a header line, then for each step takes logits and gives the tokens that came.

stdout carries logits (streams × vocab float32) and nothing else; what a library prints goes to stderr.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from evaluate import Predictor
from model import GPT
from parallel import join
from quantize import unpack


def predict() -> None:
    device = join().device
    out = os.fdopen(os.dup(1), "wb", buffering=1 << 20)
    os.dup2(2, 1)
    source = sys.stdin.buffer
    header = json.loads(source.readline())
    model = GPT(header["vocab"])
    artefact = Path(os.environ["GITRESEARCH_ARTEFACT"])
    model.load_state_dict(unpack((artefact / "weights.bin").read_bytes()))
    predictor = Predictor(model.to(device), header["streams"])
    for step in range(header["steps"]):
        out.write(predictor.logits().cpu().numpy().astype("<f4").tobytes())
        out.flush()
        if step + 1 < header["steps"]:
            data = source.read(4 * header["streams"])
            if len(data) < 4 * header["streams"]:  # the evaluator hung up, and says why
                return
            predictor.observe(torch.from_numpy(np.frombuffer(data, dtype="<i4").astype(np.int64)).to(device))


if __name__ == "__main__":
    predict()
