"""A whole small study through the real store, lab, proposer and loop, in a process that is made to be killed.

Run as a program it is a nursery: for each line on stdin (a world, and `durable` or `quick`) it forks a child that waits
for one more byte, so that strace can take hold of it, and then works. Everything happens in the child's one thread,
so that a system call's number says where the work was. What the child is promised it says on stdout, a line each.
"""

import ctypes
import os
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from gitresearch import loop
from gitresearch.agents import Proposal, ProposalFailed, Request
from gitresearch.audit import Report, audit
from gitresearch.briefing import Briefing
from gitresearch.errors import GitResearchError
from gitresearch.evaluate import RunResult
from gitresearch.lab import Lab
from gitresearch.lineage import Lineage
from gitresearch.loop import Loop, Plan, Stop
from gitresearch.outcome import Outcome, Run
from gitresearch.propose import Proposer
from gitresearch.repo import Repo, objects
from gitresearch.signing import signers
from gitresearch.study import load
from gitresearch.trial import Hypothesis, Trial

NAME = "crashed"
STUDY = """\
name = "crashed"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[evaluator]
pattern = "loss: (.*)"
[seeds]
baseline = 2
head = 1
confirm = 2
[[specialists]]
name = "one"
surface = ["train.py"]
"""
VALUES = (0.5, 1.5)  # a keep, and a discard
TOTAL = len(VALUES)
PR_SET_PTRACER, ANY = 0x59616D61, ctypes.c_ulong(-1)


def world(top: Path) -> Path:
    """A folder with a study that has not begun, and a place for keys."""
    study = top / "study"
    (top / "config").mkdir(parents=True)
    study.mkdir()
    (study / "train.py").write_text("VALUE = 1.0\n")
    (study / "study.toml").write_text(STUDY)
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "begin"]):
        subprocess.run(["git", "-C", str(study), *words], check=True)
    shutil.rmtree(study / ".git" / "hooks", ignore_errors=True)
    return top


class Scripted:
    """Runs that take no time: the loss is the trial's VALUE and a little noise."""

    def __init__(self, repo: Repo, base: str) -> None:
        self.repo, self.base = repo, base

    def run(
        self, trial: Trial, seed: int, purpose: str, cancel: threading.Event | None = None, bar: object = None
    ) -> RunResult:
        value = float((self.repo.read_file(trial.oid, "train.py") or b"").decode().split("=")[1])
        binding = {"commit": trial.oid, "tree": trial.tree, "base": self.base, "hook": "", "data": ""}
        run = Run(seed, purpose, "ok", {"loss": value + random.Random(seed).gauss(0, 1e-4)}, wall_seconds=1.0)
        return RunResult(run, None, {"sandbox": "none"}, binding)

    def foresee(self, files: Mapping[str, bytes]) -> str:
        return ""


class Stepwise:
    """Proposes the first of VALUES that no trial has."""

    reads_lineage, resolves_conflicts = True, False

    def propose(self, request: Request) -> Proposal:
        tried = {node.trial.subject for node in request.lineage}
        value = next((value for value in VALUES if f"set VALUE to {value}" not in tried), None)
        if value is None:
            raise ProposalFailed("all are tried")
        hypothesis = Hypothesis.from_text(f"set VALUE to {value}", "scripted", study=NAME, specialist="one")
        return Proposal(hypothesis, {"train.py": f"VALUE = {value}\n".encode()}, transcript="thinking")


class Teller:
    """Says what was promised as soon as it was."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    def proposed(self, trial: Trial) -> None:
        self.say(f"trial {trial.oid}")

    def settled(self, trial: Trial, outcome: Outcome) -> None:
        self.say(f"outcome {trial.oid} {sum(run.status == 'ok' for run in outcome.runs)}")

    def said(self, text: str) -> None: ...


def go_on(top: Path, *, durable: bool, say: Callable[[str], None] = lambda _line: None) -> None:
    """Begin the study or go on with it, to its end, as `gitresearch run` does."""
    repo = Repo.open(top / "study", durable=durable)
    repo.clear_stale_locks()
    repo.pin_study(NAME, repo.head_commit())
    study, base = load(STUDY), repo.study_base(NAME) or ""
    lab = Lab(repo, study, base, Scripted(repo, base))
    proposer = Proposer(Briefing(repo, study, base), Stepwise(), lock=lab.lock)
    Loop(lab, proposer, Plan(total=TOTAL), Stop(), Teller(say)).run()
    repo.pack_if_needed()


def audited(top: Path) -> Report:
    """The audit of a world's study; whoever signed here is believed."""
    repo = Repo.open(top / "study", durable=False, cache=False)
    known = signers(repo.signer_line()) if repo.notes_refs() else []
    return audit(repo, load(STUDY), repo.study_base(NAME) or "", known)


def state(top: Path) -> dict[str, Any]:
    """What a study came to, without what differs from run to run: times, oids, seeds and runs that our fault ended."""
    repo = Repo.open(top / "study", durable=False, cache=False)
    records = repo.trials(NAME)
    lineage = Lineage.of(load(STUDY).objective, records)
    subjects = {record.trial.oid: record.trial.subject for record in records}
    proposed = repo.proposals()  # one whose trial was not made yet when a kill came stays, with what it cost
    return {
        "best": subjects.get(repo.best(NAME) or ""),
        "head": lineage.head and lineage.head.trial.subject,
        "trials": sorted(_told(record.trial, subjects) + _found(repo, record.trial) for record in records),
        "told how": sorted(subjects[oid] for oid in proposed.keys() & subjects.keys()),
    }


def _told(trial: Trial, subjects: Mapping[str, str]) -> tuple[Any, ...]:
    return trial.subject, trial.operator, [subjects.get(oid) for oid in trial.parents]


def _found(repo: Repo, trial: Trial) -> tuple[Any, ...]:
    outcome = repo.outcome(trial.oid)
    if outcome is None:
        return ("pending",)
    head = outcome.summary
    runs = dict(Counter(run.purpose for run in outcome.runs if run.status == "ok"))
    score = None if head.score is None else round(head.score, 2)
    return head.status, head.confirmed, score, runs


class Inline:
    """An executor that works at once, in the caller's thread."""

    def __init__(self, *_: object, **__: object) -> None: ...
    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., Any], *given: object) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*given))
        except BaseException as error:
            done.set_exception(error)
        return done


def child(top: Path, durable: bool) -> int:
    """Wait, work, and tell how it ended."""
    os.environ["XDG_CONFIG_HOME"] = str(top / "config")
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY, 0, 0, 0)  # where only a parent may trace
    os.write(1, f"pid {os.getpid()}\n".encode())
    os.read(0, 1)
    try:
        go_on(top, durable=durable, say=lambda line: os.write(1, f"{line}\n".encode()))
    except GitResearchError as error:
        os.write(1, f"told {error}\n".encode())
        return 1
    except BaseException as error:
        os.write(1, f"raised {error!r}\n".encode())
        return 2
    return 0


def main() -> None:
    loop.ThreadPoolExecutor = Inline  # type: ignore[misc,assignment]
    objects._threads = Inline  # type: ignore[assignment]
    while line := sys.stdin.readline():
        top, _, how = line.rstrip("\n").rpartition(" ")
        pid = os.fork()
        if pid == 0:
            os._exit(child(Path(top), how == "durable"))
        _, status = os.waitpid(pid, 0)
        os.write(1, f"ended {status}\n".encode())


if __name__ == "__main__":
    main()
