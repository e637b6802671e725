"""What a brief costs beside the length of the history it tells of.

    python benchmarks/brief.py            # histories of 1,000 and 10,000 trials
    python benchmarks/brief.py --full     # and 100,000

A history is imported and read once; then the brief of its head is made by a process that has made none (first), and
again after one more outcome (next). Printed beside them: reading the lineage, which a loop does once, and the ratio of
each figure to the shortest history's.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from loop import STUDY, history, make_repo

from gitresearch.briefing import Briefing
from gitresearch.lineage import Lineage
from gitresearch.repo import Repo
from gitresearch.study import load
from gitresearch.text import tokens


def measure(count: int, scratch: Path) -> tuple[float, float, float, int]:
    """(seconds to read the lineage, to the first brief, to a next one, its characters) at `count` trials."""
    top = scratch / f"repo-{count}"
    top.mkdir()
    history(make_repo(top), count)
    repo, study = Repo.open(top), load(STUDY)
    began = time.perf_counter()
    lineage = Lineage.of(study.objective, repo.trials(study.name))
    read = time.perf_counter() - began
    briefing = Briefing(repo, study, repo.study_base("bench") or "")
    parent = lineage.leaderboard(1)[0].trial.oid
    times, text = [], ""
    for latest in lineage.recent(8):
        began = time.perf_counter()
        text = briefing.text(lineage, study.specialists[0], parent)
        times.append(time.perf_counter() - began)
        if latest.summary:
            lineage.settle(latest.trial.oid, latest.summary)
    return read, times[0], median(times[1:]), tokens(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="a history of 100,000 trials as well")
    options = parser.parse_args()
    print(f"a brief has at most {load(STUDY).agent.brief_limit:,} tokens, as estimated")
    print(f"{'history':>8} {'read s':>7} {'first ms':>9} {'next ms':>8} {'ratio':>6} {'tokens':>7}")
    shortest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for count in (1_000, 10_000, *((100_000,) if options.full else ())):
            read, first, later, size = measure(count, Path(folder))
            shortest = shortest or first
            print(
                f"{count:>8,} {read:>7.2f} {first * 1e3:>9.1f} {later * 1e3:>8.1f} {first / shortest:>6.2f} {size:>7,}"
            )


if __name__ == "__main__":
    main()
