"""By how much one training differs from the same training: in seconds, and told in those of another beside it.

    python benchmarks/beside.py              # 7 rounds, about 6 minutes
    python benchmarks/beside.py --rounds 20

Airbench's small start, trained from the same seed each time, so that all of them do the same work; CPU seconds of the
whole process. Each round runs every arrangement once: two one after the other, two at once on two cores, two at once
held to one core, as `relative_seconds` has them. Printed are coefficients of variation, of the seconds and of the ratio
of the two.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev

from tasks import begin, call

from gitresearch.cores import Cores


class Trainings:
    """Airbench's training, as often as one likes."""

    def __init__(self, work: Path) -> None:
        begin(work / "study", "airbench", 0)
        call(work / "study", "data", "fetch")
        shown = json.loads(call(work / "study", "data", "show", "--json"))
        self.folder, self.work = work / "study/recipes/airbench", work
        self.env = os.environ | {"GITRESEARCH_DATA": shown["train"]["path"], "GITRESEARCH_SEED": "1"}
        self.env |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def at_once(self, count: int) -> list[float]:
        """The CPU seconds of so many that begin together."""
        begun = []
        for _ in range(count):
            env = self.env | {"GITRESEARCH_ARTEFACT": tempfile.mkdtemp(dir=self.work)}
            train = [sys.executable, "train.py"]
            begun.append(subprocess.Popen(train, cwd=self.folder, env=env, stdout=subprocess.DEVNULL))
        used = []
        for process in begun:
            _, status, usage = os.wait4(process.pid, 0)
            assert status == 0, "a training failed"
            process.returncode = 0
            used.append(usage.ru_utime + usage.ru_stime)
        return used

    def in_turn(self) -> list[float]:
        return self.at_once(1) + self.at_once(1)

    def on_one_core(self) -> list[float]:
        with Cores().one():
            return self.at_once(2)


def varied(values: list[float]) -> float:
    return 100 * stdev(values) / mean(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="gitresearch-beside-"))
    try:
        trainings = Trainings(work)
        arrangements = {
            "one after the other": trainings.in_turn,
            "at once, two cores": lambda: trainings.at_once(2),
            "at once, one core": trainings.on_one_core,
        }
        found: dict[str, list[list[float]]] = {name: [] for name in arrangements}
        for _ in range(options.rounds):
            for name, run in arrangements.items():
                found[name].append(run())
    finally:
        shutil.rmtree(work)
    print(f"{options.rounds} rounds            seconds   vary by   the ratio by")
    for name, pairs in found.items():
        each = [seconds for pair in pairs for seconds in pair]
        ratio = varied([a / b for a, b in pairs])
        print(f"{name:22} {mean(each):7.2f} {varied(each):7.1f} % {ratio:12.2f} %")


if __name__ == "__main__":
    main()
