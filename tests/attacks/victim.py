"""An honest study, finished, and what somebody with push rights, or with the evaluator's key, can do to it."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pygit2
import pytest
from pygit2.enums import FileMode

from gitresearch import decision
from gitresearch.audit import Report, audit
from gitresearch.cli.main import run as gitresearch
from gitresearch.decision import REPRODUCED, Claimed
from gitresearch.looks import at_gates, claimed_gates, gate_facts, gate_level, look_facts
from gitresearch.noise import Spread
from gitresearch.outcome import Outcome, Run, Summary, mean, summarise
from gitresearch.pinned import listed_signers
from gitresearch.repo import Repo
from gitresearch.repo.objects import print_commit
from gitresearch.repo.refs import OUTCOMES
from gitresearch.signing import Key
from gitresearch.study import load
from tests.build import git, put_raw

NAME = "honest"
LATER = 1_800_000_000  # when it is attacked, in seconds since 1970
TRAIN = """\
import os
import random

LR = 0.1
# The loss is lowest at a rate of 0.3, and falls with the width.
#
#
WIDTH = 8
noise = random.Random(int(os.environ["GITRESEARCH_SEED"])).gauss(0, 0.0001)
print(f"val_loss: {(LR - 0.3) ** 2 + 1 / WIDTH + noise:.6f}")
print(f"accuracy: {0.9 if WIDTH < 100 else 0.5}")
"""
STUDY = """\
name = "honest"
question = "Which change gives the lowest loss?"
[recipe]
train = "python train.py"
[objective]
metric = "val_loss"
[budget]
train_seconds = 20
[seeds]
baseline = 3
head = 1
confirm = 3
[evaluator]
pattern = '''val_loss: (\\S+)'''
[[gates]]
metric = "val_loss"
at_most = 0.6
[[specialists]]
name = "rate"
surface = ["train.py::LR"]
[[specialists]]
name = "width"
surface = ["train.py::WIDTH"]
"""
# The changes that are tried: a keep, a crash that stands on it, a discard beside them.
TRIALS = [("LR = 0.1", "LR = 0.2", ""), ("WIDTH = 8", "WIDTH = 0", ""), ("LR = 0.1", "LR = 0.9", "baseline")]


def finished(top: Path) -> Path:
    """A study of five trials: calibrated, searched, its head confirmed, through the command line alone."""
    for name, text in {"train.py": TRAIN, "study.toml": STUDY, "notes.txt": "nothing yet\n"}.items():
        top.mkdir(exist_ok=True)
        (top / name).write_text(text)
    git(top, "init", "--quiet", "-b", "main")
    (top / "allowed_signers").write_text(f"{Repo.open(top).signer_line()}\n")
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "-m", "begin")
    allowed = [] if shutil.which("bwrap") else ["--allow-unsandboxed"]
    do(top, "run", "--trials", "0", *allowed)
    for old, new, parent in TRIALS:
        (top / "train.py").write_text(TRAIN.replace(old, new))
        on = ["--parent", Repo.open(top).trials(NAME)[0].trial.short] if parent else []
        do(top, "propose", "--from-worktree", "-m", f"{old} to {new}", *on)
        do(top, "evaluate", *allowed)
    git(top, "checkout", "--quiet", "--", "train.py")
    do(top, "run", "--trials", "0", *allowed)
    git(top, "repack", "-adq")  # it is copied a hundred times
    for sample in (top / ".git/hooks").glob("*.sample"):
        sample.unlink()
    return top


def do(top: Path, *words: str) -> None:
    """A command that must end well."""
    if code := gitresearch(["-C", str(top), *words]):
        raise AssertionError(f"gitresearch {' '.join(words)} ended with {code}")


@dataclass
class Victim:
    """A copy of the honest study to be attacked. `key` is the evaluator's, `thief` somebody else's."""

    top: Path
    key: Key
    thief: Key

    @property
    def repo(self) -> Repo:
        return Repo.open(self.top, durable=False, cache=False)

    @property
    def ref(self) -> str:
        """The evaluator's notes."""
        return OUTCOMES + self.repo.evaluator_id()

    def git(self, *words: str) -> str:
        return git(self.top, *words)

    def trial(self, status: str) -> str:
        """A trial that ended so."""
        return next(r.trial.oid for r in self.repo.trials(NAME) if r.summary and r.summary.status == status)

    def source(self, oid: str) -> bytes:
        """A trial's program."""
        return self.repo.read_file(oid, "train.py") or b""

    def outcome(self, oid: str) -> Outcome:
        found = self.repo.outcome(oid)
        assert found is not None
        return found

    def say(self, oid: str, outcome: Outcome | bytes, key: Key | None = None, ref: str = "") -> str:
        """Put a note on a notes ref, signed by a key; the new commit."""
        ref = ref or self.ref
        note = outcome if isinstance(outcome, bytes) else outcome.note()
        handle = pygit2.Repository(str(self.top))  # in this process: most forgeries say something
        tip = handle.references.get(ref)
        notes = handle.TreeBuilder(*([tip.peel(pygit2.Tree)] if tip else []))
        notes.insert(oid, handle.create_blob(note), FileMode.BLOB)
        return self.commit(ref, str(notes.write()), [str(tip.target)] if tip else [], key)

    def measured(self, change: str) -> tuple[str, Outcome]:
        """A new trial, a step from the head, and an outcome that it might truly have got."""
        keep = self.trial("keep")
        text = self.git("show", f"{keep}:train.py").replace("LR = 0.2", change).encode()
        oid = self.add(keep, {"train.py": text})
        told = self.outcome(keep)
        tree = self.git("rev-parse", f"{oid}^{{tree}}").strip()
        reference = told.summary.score or 0.0
        runs = tuple(replace(run, seed=run.seed + 1, metrics={"val_loss": 0.125}) for run in told.runs[:2])
        facts = {**told.decision, "against": f"head {keep[:8]}", "reference": reference, "reference_n": told.summary.n}
        facts = {name: value for name, value in facts.items() if not name.startswith("claim")}
        facts |= {"score": 0.125, "score_n": 1, "gain": reference - 0.125}
        facts |= self.looked(facts, runs[1:])
        head = summarise("keep", "val_loss", runs, told.summary.at)
        for run in runs:
            self.start(oid, run.seed, run.purpose)
        return oid, replace(
            told, summary=head, runs=runs, decision=facts, binding={**told.binding, "commit": oid, "tree": tree}
        )

    def looked(self, facts: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
        """The facts about gates and looks that follow from fresh runs, with the spread that the facts say was known."""
        noise = {"val_loss": Spread(facts["gate_1_known_sd"], facts["gate_1_known_df"])}
        study = load(STUDY)
        told = gate_facts("gate", at_gates(study.gates, runs, noise, gate_level(study)))
        found = [run.metrics["val_loss"] for run in runs]
        gain = facts["reference"] - mean(found)
        return told | look_facts(study, gain, noise["val_loss"].joined(found), len(runs), study.seeds.head)

    def claimed_gates(self, facts: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
        """The same for the runs of a claim."""
        noise = {"val_loss": Spread(facts["claim_gate_1_known_sd"], facts["claim_gate_1_known_df"])}
        return gate_facts("claim_gate", claimed_gates(load(STUDY), runs, noise))

    def looked_at(self, told: Outcome, score: float, claimed: Summary | None = None, **lies: Any) -> Outcome:
        """An outcome as its evaluator adds to it after a second look that found a score, with some facts as lies."""
        run = Run(7, "reproduce", "ok", {"val_loss": score}, train_seconds=0.1, started="2026-01-01T00:00:00Z")
        runs = (*told.runs, run)
        self.start(str(told.binding["commit"]), run.seed, run.purpose)
        facts = decision.reproduced("val_loss", Claimed.of(claimed or told.summary), runs, Spread(0.001, 5)) | lies
        return replace(
            told, runs=runs, decision={**told.decision} | {REPRODUCED + n: value for n, value in facts.items()}
        )

    def aside(self, *words: str, given: bytes = b"") -> str:
        """A git command on an index of the forger's own."""
        env = {**os.environ, "GIT_INDEX_FILE": str(self.top / ".git" / "forged-index")}
        command = ["git", "-C", str(self.top), *words]
        return subprocess.run(command, input=given, env=env, capture_output=True, check=True).stdout.decode().strip()

    def commit(self, ref: str, tree: str, parents: list[str], key: Key | None) -> str:
        """A notes commit on a ref."""
        who = f"Ada Tester <ada@example.org> {LATER} +0000"
        made = put_raw(self.repo, "commit", print_commit(tree, parents, who, who, "outcome\n", key))
        self.git("update-ref", ref, made)
        return made

    def start(self, oid: str, seed: int, purpose: str, ago: int = 0) -> None:
        """The evaluator begins a run."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: LATER - ago)
            self.repo.start(oid, seed, purpose)

    def further(self, oid: str, purpose: str, **changed: Any) -> tuple[Run, ...]:
        """A trial's runs, and one more like the last, begun as it must be, in no time: the head's seconds stay."""
        runs = self.outcome(oid).runs
        more = replace(runs[-1], seed=runs[-1].seed + 1, purpose=purpose, wall_seconds=0.0, **changed)
        self.start(oid, more.seed, purpose)
        return (*runs, more)

    def lie(self, oid: str, **changed: Any) -> str:
        """The evaluator itself says something else of a trial: fields of the outcome, or of its head."""
        told = self.outcome(oid)
        head = {name: value for name, value in changed.items() if name in told.summary._fields}
        rest = {name: value for name, value in changed.items() if name not in head}
        return self.say(oid, replace(told, summary=told.summary._replace(**head), **rest), self.key)

    def add(self, parent: str, files: Mapping[str, bytes | tuple[str, bytes]], **told: str) -> str:
        """A trial as plain git makes one: its files (with a mode where it is odd), its trailers; on a true branch."""
        self.aside("read-tree", parent)
        for path, file in files.items():
            mode, data = file if isinstance(file, tuple) else ("100644", file)
            blob = self.aside("hash-object", "-w", "--stdin", given=data)
            self.aside("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}")
        trailers = {"Study": NAME, "Specialist": "rate", "Operator": "improve", **told}
        parents = trailers.pop("parents", parent).split()
        subject = trailers.pop("subject", "a change")
        body = "\n".join(f"{name}: {value}" for name, value in trailers.items())
        words = [word for one in parents for word in ("-p", one)]
        oid = self.aside("commit-tree", self.aside("write-tree"), *words, "-m", f"{subject}\n\n{body}")
        self.git("update-ref", f"refs/heads/trial/{NAME}/a-change-{oid[:8]}", oid)
        return oid

    def audit(self, seen: Mapping[str, str] | None = None) -> Report:
        repo = self.repo
        base = repo.study_base(NAME) or ""
        study = load((repo.read_file(base, "study.toml") or b"").decode())
        return audit(repo, study, base, listed_signers(repo, base), seen)


Attack = Callable[[Victim], Any]
