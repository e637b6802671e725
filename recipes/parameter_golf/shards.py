"""Token files, for the full scale: the public format of FineWeb shards, read where they lie.

A file is a header of 256 int32 (20240520, version 1, number of tokens) and that many tokens as uint16. The evaluator
checks them before the first trial.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HEADER_BYTES = 256 * 4


class Shards:
    """A folder's token files as one long row; a window never crosses from file to file."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.bin"))
        self.parts = [np.memmap(path, dtype="<u2", mode="r", offset=HEADER_BYTES) for path in paths]
        self.ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def windows(self, starts: Tensor, length: int) -> Tensor:
        """Tokens (len(starts), length) from those places on; where a file ends before, its last ones."""
        rows = []
        for start in starts.tolist():
            number = int(np.searchsorted(self.ends, start, side="right"))
            part = self.parts[number]
            at = min(start - int(self.ends[number]) + len(part), len(part) - length)
            rows.append(part[at : at + length].astype(np.int64))
        return torch.from_numpy(np.stack(rows))
