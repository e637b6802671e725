"""What the loop adds to a trial: everything but training and model calls, measured with a hook that does nothing.

    python benchmarks/loop.py            # histories of 1,000 and 10,000 trials
    python benchmarks/loop.py --full     # and 100,000

A history is imported, then the real loop runs a real evaluator on trials whose training sleeps for half a second, one
at a time; what is printed is the rest of a trial's time. The agent sets one constant, so proposing costs what the store
and the checks cost. Printed beside it: what starting a trial's processes one after another takes without us (the
floor; the loop starts some while a trial trains), and the ratio.
"""

import argparse
import itertools
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from gitresearch.agents import Proposal, Request
from gitresearch.briefing import Briefing
from gitresearch.evaluate import Evaluator
from gitresearch.lab import Lab
from gitresearch.loop import Loop, Plan, Stop
from gitresearch.outcome import Outcome, Run, summarise
from gitresearch.propose import Proposer
from gitresearch.repo import NewTrial, Repo
from gitresearch.sandbox import Limits, Sandbox, World, choose, run
from gitresearch.study import load
from gitresearch.trial import Hypothesis, Trial

STUDY = """
name = "bench"
[recipe]
train = "sleep 0.5"
[objective]
metric = "loss"
[evaluator]
hook = "hook.py"
[seeds]
baseline = 2
[[specialists]]
name = "one"
surface = ["train.py"]
"""
TRAINING = 0.5
HOOK = """
import json, sys
json.load(sys.stdin)
print(json.dumps({"prepare": {}, "preflight": {"ok": True}, "measure": {"artefact_bytes": 1},
                  "score": {"metrics": {"loss": 1.0}}}[sys.argv[1]]))
"""


class Counting:
    """An agent that costs nothing: the next number each time."""

    reads_lineage = True

    def __init__(self, start: int) -> None:
        self.value = start

    def propose(self, request: Request) -> Proposal:
        self.value += 1
        hypothesis = Hypothesis.from_text(f"set VALUE to {self.value}", study="bench", specialist="one")
        return Proposal(hypothesis, {"train.py": f"VALUE = {self.value}\n".encode()})


class Silent:
    """A watcher that remembers when each outcome came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def proposed(self, trial: Trial) -> None: ...
    def said(self, text: str) -> None: ...

    def settled(self, trial: Trial, outcome: Outcome) -> None:
        self.times.append(time.perf_counter())


def make_repo(top: Path) -> Repo:
    (top / "train.py").write_text("VALUE = 0\n")
    (top / "hook.py").write_text(HOOK)
    (top / "study.toml").write_text(STUDY)
    for args in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "begin"]):
        subprocess.run(["git", "-C", str(top), "-c", "user.name=b", "-c", "user.email=b@b", *args], check=True)
    repo = Repo.open(top)
    repo.pin_study("bench", repo.head_commit())
    return repo


def history(repo: Repo, count: int) -> None:
    """`count` evaluated trials on random earlier ones."""
    rng = random.Random(0)
    base = repo.make_baseline("bench", repo.head_commit())

    def items() -> Iterator[NewTrial]:
        for i in range(count):
            hypothesis = Hypothesis.from_text(
                f"set VALUE to {i + 1}", "a made-up step", study="bench", specialist="one"
            )
            done = Run(i, "screen", "ok", {"loss": 2.0 + rng.random()}, wall_seconds=1.0)
            status = "discard" if rng.random() < 0.9 else "crash"
            outcome = Outcome(summarise(status, "loss", [done], "2026-01-01T00:00:00Z"), (done,))
            parent = base.oid if i == 0 or rng.random() < 0.1 else rng.randrange(i)
            yield NewTrial(
                hypothesis, [parent], {"train.py": f"VALUE = {i + 1}\n".encode()}, 1_700_000_000 + i, outcome
            )

    repo.import_trials(items())


def floor(box: Sandbox, folder: Path) -> float:
    """Seconds to start what a trial starts anyway: the hook's interpreter three times and one sandbox."""
    hook = folder / "hook.py"
    began = time.perf_counter()
    for verb in ("preflight", "measure", "score"):
        subprocess.run([sys.executable, "-I", str(hook), verb], input=b"{}", capture_output=True, check=True)
    run(box, ["true"], World(folder), Limits(10, cpu_seconds=10))
    return time.perf_counter() - began


def measure(count: int, trials: int, box: Sandbox, scratch: Path) -> tuple[float, float, float]:
    """(start of the loop, median seconds a trial, median floor) on a history of `count` trials."""
    top = scratch / f"repo-{count}"
    top.mkdir()
    repo = make_repo(top)
    history(repo, count)
    repo = Repo.open(top)
    study = load(STUDY)
    began = time.perf_counter()
    evaluator = Evaluator(repo, study, repo.study_base("bench") or "", box, scratch / "cache")
    evaluator.prepare()
    lab = Lab(repo, study, repo.study_base("bench") or "", evaluator)
    started = time.perf_counter() - began
    watcher = Silent()
    Loop(lab, Proposer(Briefing(repo, study, lab.base), Counting(count)), Plan(trials=trials), Stop(), watcher).run()
    times = watcher.times[study.seeds.baseline :]
    each = [b - a for a, b in itertools.pairwise(times)]
    return started, median(each) - TRAINING, median(floor(box, top) for _ in range(7))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="a history of 100,000 trials as well")
    parser.add_argument("--trials", type=int, default=25)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        box = choose(allow_unsandboxed=True, cache=scratch / "cache")
        print(f"{box.description}; {options.trials} trials each")
        print(f"{'history':>8} {'start s':>8} {'ms a trial':>11} {'floor ms':>9} {'ratio':>6}")
        for count in (1_000, 10_000, *((100_000,) if options.full else ())):
            started, each, least = measure(count, options.trials, box, scratch)
            print(f"{count:>8,} {started:>8.2f} {each * 1e3:>11.1f} {least * 1e3:>9.1f} {each / least:>6.2f}")


if __name__ == "__main__":
    main()
