"""The real data of a timed task: made ready beside a run, and moved into the folder that it sees when its clock starts.

All that takes time is done before the run begins; what is left is a rename for each name at the top. Files are hard
links of the hook's own (read-only inside), or copies where a file system can't link.
"""

import os
import shutil
from pathlib import Path


class Handover:
    """One run's data. `shown` is the folder that the trial sees, empty until `give`."""

    def __init__(self, data: Path, top: Path) -> None:
        self.shown, self._kept = top / "data", top / "kept"
        self.shown.mkdir()
        shutil.copytree(data, self._kept, symlinks=True, copy_function=_linked)

    def give(self) -> None:
        """Let the data appear. OSError where that can't be."""
        for path in sorted(self._kept.iterdir()):
            path.rename(self.shown / path.name)


def _linked(source: str, dest: str) -> None:
    try:
        os.link(source, dest, follow_symlinks=False)
    except OSError:  # another file system, or files that are somebody else's
        shutil.copy2(source, dest, follow_symlinks=False)
