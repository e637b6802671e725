"""What an audit costs a trial, beside git checking the same signatures, and beside a shorter history.

    python benchmarks/audit.py            # histories of 500 and 4,000 trials
    python benchmarks/audit.py --full     # and 20,000

Each history is searched by the lab itself with made-up scores, a signed notes commit an outcome, and packed. Printed:
seconds of the whole audit and ms a trial; the ratio of that to the shortest history's; and how many times as long
`git verify-commit` takes for the signatures alone (of 40 commits, by one process).
"""

import argparse
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from loop import STUDY, make_repo

from gitresearch.audit import audit
from gitresearch.evaluate import RunResult
from gitresearch.hooks import export_hook, folder_digest
from gitresearch.lab import Lab
from gitresearch.outcome import Run
from gitresearch.repo import Repo
from gitresearch.repo.refs import OUTCOMES
from gitresearch.signing import signers
from gitresearch.study import load
from gitresearch.trial import Hypothesis, Trial


class MadeUp:
    """Scores that need no run, bound as an evaluator binds them."""

    def __init__(self, base: str, hook: str) -> None:
        self.base, self.hook, self.rng = base, hook, random.Random(0)

    def run(self, trial: Trial, seed: int, purpose: str, cancel: threading.Event | None = None) -> RunResult:
        binding = {"commit": trial.oid, "tree": trial.tree, "base": self.base, "hook": self.hook, "data": ""}
        run = Run(seed, purpose, "ok", {"loss": 2.0 + self.rng.random()}, wall_seconds=1.0)
        return RunResult(run, None, {"sandbox": "made up"}, binding)

    def foresee(self, files: Mapping[str, bytes]) -> str:
        return ""


def searched(count: int, top: Path) -> Repo:
    """A study with `count` evaluated trials."""
    make_repo(top)
    repo = Repo.open(top, durable=False)
    base, study = repo.study_base("bench") or "", load(STUDY)
    hook = export_hook(repo.export, base, study.evaluator.hook, top.parent / f"hook-{count}")
    lab = Lab(repo, study, base, MadeUp(base, folder_digest(hook.parent)))
    while lab.missing(lab.baseline.oid, "baseline"):
        lab.calibrate()
    for number in range(count):
        hypothesis = Hypothesis.from_text(f"set VALUE to {number + 1}", "made up", study="bench", specialist="one")
        edit = {"train.py": f"VALUE = {number + 1}\n".encode()}
        trial = repo.make_trial(hypothesis, [lab.lineage.head.trial.oid if lab.lineage.head else base], edit)
        lab.add(trial)
        lab.assess(trial)
        if number % 500 == 499:
            repo.pack_if_needed()
    subprocess.run(["git", "-C", str(top), "gc", "-q"], check=True)
    return repo


def by_git(repo: Repo, known: Path) -> float:
    """Seconds that git takes for one signature."""
    command = ["git", "-C", str(repo.git_dir), "-c", f"gpg.ssh.allowedSignersFile={known}"]
    ref = OUTCOMES + repo.evaluator_id()
    oids = subprocess.run([*command, "rev-list", "-n", "40", ref], capture_output=True, text=True, check=True).stdout
    began = time.perf_counter()
    subprocess.run([*command, "verify-commit", *oids.split()], capture_output=True, check=True)
    return (time.perf_counter() - began) / len(oids.split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="a history of 20,000 trials as well")
    options = parser.parse_args()
    print(f"{'history':>8} {'audit s':>8} {'ms a trial':>11} {'ratio':>6} {'git, signatures alone':>22}")
    shortest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for count in (500, 4_000, *((20_000,) if options.full else ())):
            top = Path(folder) / str(count)
            top.mkdir()
            repo = searched(count, top)
            line = repo.signer_line()
            (Path(folder) / "known").write_text(line + "\n")
            began = time.perf_counter()
            report = audit(Repo.open(top), load(STUDY), repo.study_base("bench") or "", signers(line))
            seconds = time.perf_counter() - began
            if report.findings:
                raise SystemExit(f"the audit found {report.findings[0]}")
            each = seconds / count
            shortest = shortest or each
            git = by_git(repo, Path(folder) / "known") * report.commits / seconds
            print(f"{count:>8,} {seconds:>8.2f} {each * 1e3:>11.2f} {each / shortest:>6.2f} {git:>16.1f} times")


if __name__ == "__main__":
    main()
