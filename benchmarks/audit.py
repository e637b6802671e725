"""What an audit costs a trial, beside git checking the same signatures, and beside a shorter history.

    python benchmarks/audit.py            # histories of 1,000 and 10,000 trials
    python benchmarks/audit.py --full     # and 100,000: 2 GB, and most of the time is for making them

Each history is a calibrated baseline and trials with made-up scores, a signed notes commit for each run's start and for
each outcome. The lab would need hours to make the longest; here the same commits are put straight into packs. Printed:
CPU seconds of the whole audit, which neighbours disturb less than those of a clock, and ms a trial; the ratio of that
to the shortest history's; and how many times as long `git verify-commit` takes for the signatures alone (of 40
commits, by one process, by the clock).
"""

import argparse
import json
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from loop import STUDY, make_repo

from gitresearch.audit import audit
from gitresearch.decision import verdict
from gitresearch.evaluate import RunResult
from gitresearch.hooks import export_hook, folder_digest
from gitresearch.lab import Lab
from gitresearch.outcome import Outcome, Run, now, summarise
from gitresearch.repo import Repo
from gitresearch.repo.bulk import add_packed_refs
from gitresearch.repo.claims import this_process
from gitresearch.repo.notes import put_note
from gitresearch.repo.objects import print_commit
from gitresearch.repo.packfile import Overlay
from gitresearch.repo.refs import OUTCOMES
from gitresearch.repo.trees import Trees
from gitresearch.signing import signers
from gitresearch.study import load
from gitresearch.trial import Hypothesis, Trial, read_commit


class MadeUp:
    """Scores that need no run, bound as an evaluator binds them; the baseline's is the best."""

    def __init__(self, base: str, hook: str) -> None:
        self.base, self.hook, self.rng = base, hook, random.Random(0)

    def run(self, trial: Trial, seed: int, purpose: str, cancel: threading.Event | None = None) -> RunResult:
        binding = {"commit": trial.oid, "tree": trial.tree, "base": self.base, "hook": self.hook, "data": ""}
        loss = (1.0 if purpose == "baseline" else 2.0) + self.rng.random() / 2
        run = Run(seed, purpose, "ok", {"loss": loss}, wall_seconds=1.0)
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
    History(lab).write(count)
    return Repo.open(top)


class History:
    """Writes trials, starts and outcomes as the store does, into packs and without a look at the disk between them."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.repo, self.reference = lab, lab.repo, lab.reference
        self.overlay = Overlay(self.repo._odb)
        self.trees = Trees(self.overlay)
        self.ref = OUTCOMES + self.repo.evaluator_id()
        self.tip = self.repo.notes_refs()[self.ref][1]
        self.notes = self.repo._tree(self.tip)
        self.time = int(time.time())

    def write(self, count: int) -> None:
        """That many trials, all on the baseline."""
        branches = {}
        for number in range(count):
            trial = self._trial(number)
            branches[f"refs/heads/{trial.branch}"] = trial.oid
            self._evaluated(trial, number)
            if number % 1000 == 999 or number == count - 1:
                self.overlay.save(self.repo.common_dir / "objects/pack", durable=False)
        add_packed_refs(self.repo.common_dir, branches, durable=False)
        subprocess.run(["git", "-C", str(self.repo.git_dir), "update-ref", self.ref, self.tip], check=True)

    def _trial(self, number: int) -> Trial:
        hypothesis = Hypothesis.from_text(f"set VALUE to {number + 1}", "made up", study="bench", specialist="one")
        edit = {"train.py": f"VALUE = {number + 1}\n".encode()}
        tree = self.trees.edited(self.overlay, self.lab.baseline.tree, edit)
        who = f"one <one@gitresearch> {self.time + number} +0000"
        raw = print_commit(tree, [self.lab.baseline.oid], who, who, hypothesis.message())
        return read_commit(self.overlay.write("commit", raw), raw)

    def _evaluated(self, trial: Trial, seed: int) -> None:
        owner = json.dumps(asdict(this_process()), sort_keys=True)
        start = f"Trial: {trial.oid}\nSeed: {seed}\nPurpose: screen\nOwner: {owner}\n"
        self._commit(f"start {trial.short}: screen\n\n{start}")
        result = self.lab.runs.run(trial, seed, "screen")
        found = verdict(self.lab.study, [result.run], self.reference)
        head = summarise(found.status, "loss", [result.run], now(), reason=found.reason)
        outcome = Outcome(
            head, (result.run,), decision=found.arithmetic, environment=result.environment, binding=result.binding
        )
        blob = bytes.fromhex(self.overlay.write("blob", outcome.note()))
        self.notes = put_note(self.trees, self.overlay, self.notes, trial.oid.encode(), blob)
        self._commit(f"outcome of {trial.short}: {head.status}\n")

    def _commit(self, message: str) -> None:
        who = f"bench <bench@localhost> {self.time} +0000"
        raw = print_commit(self.notes, [self.tip], who, who, message, self.repo.key)
        self.tip = self.overlay.write("commit", raw)


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
    parser.add_argument("--full", action="store_true", help="a history of 100,000 trials as well")
    options = parser.parse_args()
    print(f"{'history':>8} {'audit s':>8} {'ms a trial':>11} {'ratio':>6} {'git, signatures alone':>22}")
    shortest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for count in (1_000, 10_000, *((100_000,) if options.full else ())):
            top = Path(folder) / str(count)
            top.mkdir()
            repo = searched(count, top)
            line = repo.signer_line()
            (Path(folder) / "known").write_text(line + "\n")
            began = time.process_time()
            report = audit(Repo.open(top), load(STUDY), repo.study_base("bench") or "", signers(line))
            seconds = time.process_time() - began
            if report.findings:
                raise SystemExit(f"the audit found {report.findings[0]}")
            each = seconds / count
            shortest = shortest or each
            git = by_git(repo, Path(folder) / "known") * report.commits / seconds
            print(f"{count:>8,} {seconds:>8.2f} {each * 1e3:>11.2f} {each / shortest:>6.2f} {git:>16.1f} times")


if __name__ == "__main__":
    main()
