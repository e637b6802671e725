"""What each level of the sandbox adds to a program, in turns with level `none`.

    python benchmarks/sandbox.py            # 30 rounds
    python benchmarks/sandbox.py --rounds 100

Two programs: `true`, and half a second of sums without torch. Each round runs every level once, so that a busy machine
is busy for all of them; printed are medians, the difference to `none` and the ratio.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from gitresearch.sandbox import Limits, Sandbox, World, run, rungs

FIXED = "for _ in range({}): sum(range(1000))"
PROGRAMS = {"true": ["true"], "half a second of sums": [sys.executable, "-I", "-S", "-c", ""]}


def rounds_of_half_a_second() -> int:
    """How many sums this machine does in half a second: the same work at every level, whatever its clock says."""
    end, done = time.process_time() + 0.5, 0
    while time.process_time() < end:
        sum(range(1000))
        done += 1
    return done


def seconds(box: Sandbox, argv: list[str], root: Path) -> float:
    """From the start of a program to its end, all of ours included."""
    started = time.perf_counter()
    ended = run(box, argv, World(root), Limits(60))
    assert ended.exit_code == 0, ended.log
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    PROGRAMS["half a second of sums"][-1] = FIXED.format(rounds_of_half_a_second())
    with tempfile.TemporaryDirectory() as top:
        found = [rung.box for rung in rungs(Path(top)) if rung.box and not rung.fault]
        boxes = [Sandbox("none", "limits only"), *found]
        for name, argv in PROGRAMS.items():
            times: dict[str, list[float]] = {box.level: [] for box in boxes}
            for _ in range(rounds):
                for box in boxes:
                    times[box.level].append(seconds(box, argv, Path(top)))
            base = median(times["none"])
            print(f"{name}: median of {rounds}")
            for level, taken in times.items():
                now = median(taken)
                print(f"  {level:<11} {now * 1e3:7.1f} ms  {(now - base) * 1e3:+7.1f} ms  x {now / base:.3f}")


if __name__ == "__main__":
    main()
