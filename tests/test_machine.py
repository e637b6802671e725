"""Two clones, each with its evaluator, and a server: whatever happens in whatever order, the books are right.

The model is what each clone was promised: its trials, and the runs of each. After every step the audit of the clone
finds nothing, no promised trial or run is missing, and each evaluator has one note a trial. A kill is a forked child
that ends itself at one of the calls by which it writes.
"""

import json
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from gitresearch import sync
from gitresearch.audit import audit
from gitresearch.audit.notes import read
from gitresearch.cli.share import derive_best
from gitresearch.evaluate import RunResult
from gitresearch.lab import Lab
from gitresearch.outcome import Failure, Run
from gitresearch.repo import Repo, packing, store
from gitresearch.signing import signers
from gitresearch.study import load
from gitresearch.trial import Hypothesis, Trial
from tests.build import git

NAME = "machine"
STUDY = """\
name = "machine"
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
CLONES = ("ada", "beth")
WRITING = ("open", "write", "rename", "unlink", "mkdir", "pwrite")
LOSSES = st.floats(0.1, 2.0).map(lambda loss: round(loss, 3))
ENDS = st.one_of(LOSSES, LOSSES, st.sampled_from(["crash", "size_blocked", "train_budget_overrun", "harness_abort"]))
clones = st.sampled_from(CLONES)
Promise = tuple[str, list[tuple[int, str, str]]]  # a trial, and the seeds, purposes and statuses of its runs


class Scripted:
    """Runs that end as they are told to, one after another; those beyond the script score 1."""

    def __init__(self, ends: list[float | str], base: str) -> None:
        self.ends, self.base = ends, base

    def run(
        self, trial: Trial, seed: int, purpose: str, cancel: threading.Event | None = None, bar: object = None
    ) -> RunResult:
        binding = {"commit": trial.oid, "tree": trial.tree, "base": self.base, "hook": "", "data": ""}
        end = self.ends.pop(0) if self.ends else 1.0
        if isinstance(end, str):
            return RunResult(Run(seed, purpose, end), Failure("train", "Scripted", ("why",)), {}, binding)
        return RunResult(Run(seed, purpose, "ok", {"loss": end}, wall_seconds=1.0), None, {"sandbox": "none"}, binding)

    def foresee(self, files: Mapping[str, bytes]) -> str:
        return ""


def template(top: Path) -> str:
    """A server and two clones of a study in which both are listed; the lines of who signs."""
    ada, beth, server = top / "ada", top / "beth", top / "server"
    git(top, "init", "-q", "--bare", "server")
    git(top, "init", "-q", "ada")
    (ada / "study.toml").write_text(STUDY)
    (ada / "train.py").write_text("VALUE = 1\n")
    git(ada, "remote", "add", "origin", "../server")
    git(top, "clone", "-q", "server", "beth")
    git(beth, "remote", "set-url", "origin", "../server")
    lines = "".join(f"{Repo.open(clone).signer_line()}\n" for clone in (ada, beth))
    (ada / "allowed_signers").write_text(lines)
    git(ada, "add", ".")
    git(ada, "commit", "-qm", "begin")
    repo = Repo.open(ada, durable=False)
    repo.pin_study(NAME, repo.head_commit())
    sync.push(repo, say=lambda _text: None)
    sync.pull(Repo.open(beth, durable=False), say=lambda _text: None)
    for place in (ada, beth, server):
        shutil.rmtree(next(place.rglob("hooks")))
    return lines


class Clone:
    """One clone as a process has it open."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.repo = Repo.open(top, durable=False)
        self.base = self.repo.study_base(NAME) or ""

    def lab(self, *ends: float | str) -> Lab:
        return Lab(self.repo, load(STUDY), self.base, Scripted(list(ends), self.base))

    def propose(self, number: int, place: int) -> Promise:
        """A trial on any of the trials there are."""
        lab = self.lab()
        parent = list(lab.lineage)[place % len(lab.lineage)].trial
        hypothesis = Hypothesis.from_text(f"set VALUE to {number}", "drawn", study=NAME, specialist="one")
        document = f'schema = 1\nstudy = "{NAME}"\n'.encode()
        edits = {"train.py": f"VALUE = {number}\n".encode()}
        trial = self.repo.make_trial(hypothesis, [parent.oid], edits, proposal=(document, [b"a brief"]))
        return trial.oid, []

    def evaluate(self, place: int, ends: list[float | str]) -> Promise | None:
        """What waits first: a seed of the baseline, else a trial, else the head's claim."""
        lab = self.lab(*ends)
        if lab.missing(lab.baseline.oid, "baseline"):
            lab.runs = Scripted([2.0], self.base)
            return promised(self.repo, lab.calibrate() and lab.baseline.oid)
        if waiting := lab.lineage.pending():
            trial = waiting[place % len(waiting)].trial
            return promised(self.repo, trial.oid if lab.assess(trial) else None)
        due = lab.claim_due(ending=True)
        return promised(self.repo, due if due and lab.confirm(due) else None)


def promised(repo: Repo, oid: str | None) -> Promise | None:
    """A trial's runs as they are on record."""
    outcome = repo.outcome(oid) if oid else None
    return (oid, [(run.seed, run.purpose, run.status) for run in outcome.runs]) if oid and outcome else None


def killed(top: Path, work: Callable[[Clone], Promise | None], at: int) -> Promise | None:
    """What a child was promised that ended itself at its `at`-th write; None where it came to nothing."""
    source, sink = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: the child uses none
        pid = os.fork()
    if pid == 0:
        os.close(source)
        try:
            clone = Clone(top)
            _doom(at)
            answer = {"promise": work(clone)}
        except BaseException as error:
            answer = {"error": repr(error)}
        _REAL["write"](sink, json.dumps(answer).encode())
        os._exit(0)
    os.close(sink)
    with open(source, "rb") as pipe:
        told = json.loads(pipe.read() or '{"promise": null}')
    os.waitpid(pid, 0)
    assert "error" not in told, told
    return told["promise"]


_REAL: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in WRITING}


def _doom(at: int) -> None:
    """End this process at its `at`-th call of those that write."""
    left = [at]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), 9)
            return real(*given, **more)

        return call

    for name in WRITING:
        setattr(os, name, counted(_REAL[name]))


class Machine(RuleBasedStateMachine):
    """The clones, the server, and what each clone was promised: runs by trial."""

    lines = ""
    source = Path()

    @initialize()
    def begin(self) -> None:
        self.top = Path(tempfile.mkdtemp(dir=self.source.parent))
        shutil.copytree(self.source, self.top / "all")
        self.clones = {name: Clone(self.top / "all" / name) for name in CLONES}
        self.known: dict[str, dict[str, list[tuple[int, str, str]]]] = {name: {} for name in (*CLONES, "server")}
        self.number = 0

    def teardown(self) -> None:
        shutil.rmtree(self.top, ignore_errors=True)

    def promise(self, name: str, made: Promise | None) -> None:
        if made is not None:
            runs = self.known[name].setdefault(made[0], [])
            runs += [tuple(run) for run in made[1] if tuple(run) not in runs]
        self.check(name)

    def next(self) -> int:
        self.number += 1
        return self.number

    @rule(name=clones, place=st.integers(0, 5))
    def propose(self, name: str, place: int) -> None:
        self.promise(name, self.clones[name].propose(self.next(), place))

    @rule(name=clones, place=st.integers(0, 3), ends=st.lists(ENDS, max_size=3))
    def evaluate(self, name: str, place: int, ends: list[float | str]) -> None:
        self.promise(name, self.clones[name].evaluate(place, ends))
        self.check_best(name)

    @rule(name=clones, place=st.integers(0, 5), at=st.integers(1, 60))
    def propose_and_kill(self, name: str, place: int, at: int) -> None:
        number = self.next()
        self.promise(name, killed(self.clones[name].top, lambda clone: clone.propose(number, place), at))

    @rule(name=clones, place=st.integers(0, 3), ends=st.lists(ENDS, max_size=3), at=st.integers(1, 90))
    def evaluate_and_kill(self, name: str, place: int, ends: list[float | str], at: int) -> None:
        self.promise(name, killed(self.clones[name].top, lambda clone: clone.evaluate(place, ends), at))

    @rule(name=clones)
    def push(self, name: str) -> None:
        sync.push(self.clones[name].repo, say=lambda _text: None)
        self.merge(name, "server")

    @rule(name=clones)
    def pull(self, name: str) -> None:
        repo = self.clones[name].repo
        sync.pull(repo, say=lambda _text: None)
        derive_best(repo)
        self.merge("server", name)
        self.check(name)
        self.check_best(name)

    def merge(self, giver: str, taker: str) -> None:
        for oid, runs in self.known[giver].items():
            mine = self.known[taker].setdefault(oid, [])
            mine += [run for run in runs if run not in mine]

    @rule(name=clones)
    def restart(self, name: str) -> None:
        self.clones[name] = Clone(self.clones[name].top)
        self.check(name)

    @rule(name=clones)
    def pack(self, name: str) -> None:
        assert self.clones[name].repo.pack_if_needed()
        self.check(name)

    @rule(name=clones, rubbish=st.binary(max_size=200))
    def spoil_the_cache(self, name: str, rubbish: bytes) -> None:
        (self.clones[name].top / ".git/gitresearch/cache.sqlite").write_bytes(rubbish)
        self.restart(name)

    def check(self, name: str) -> None:
        """Every invariant, read by a process that knows nothing yet."""
        repo = Repo.open(self.clones[name].top, durable=False)
        report = audit(repo, load(STUDY), self.clones[name].base, signers(self.lines))
        assert report.findings == []
        trials = {record.trial.oid for record in repo.trials(NAME)}
        assert trials >= self.known[name].keys()
        assert trials == {record.trial.oid for record in self.clones[name].repo.trials(NAME)}
        recorded = self._recorded(repo)
        for oid, runs in self.known[name].items():
            assert recorded.get(oid, set()) >= set(runs)

    def _recorded(self, repo: Repo) -> dict[str, set[tuple[int, str, str]]]:
        """The runs in all evaluators' notes, after a look that each has one note a trial."""
        found: dict[str, set[tuple[int, str, str]]] = {}
        for ref, (evaluator, tip) in repo.notes_refs().items():
            names = git(repo, "ls-tree", "-r", "--name-only", tip).split()
            notes = [path.replace("/", "") for path in names if not path.startswith("attachments/")]
            assert len(notes) == len(set(notes))
            if "/outcomes/" in ref:
                for oid, versions in read(repo, ref, evaluator, tip, signers(self.lines)).versions.items():
                    runs = {(run.seed, run.purpose, run.status) for run in versions[-1].runs}
                    found.setdefault(oid, set()).update(runs)
        return found

    def check_best(self, name: str) -> None:
        """Where nobody was killed meanwhile, the branch is what the notes say."""
        clone = self.clones[name]
        best = clone.lab().lineage.best
        assert best is None or clone.repo.best(NAME) == best.trial.oid


def test_whatever_happens_the_books_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few short stories by default; HYPOTHESIS_PROFILE=thorough tells many long ones."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(packing, "MANY_OBJECTS", -1)
    monkeypatch.setattr(packing, "MANY_REFS", 0)
    monkeypatch.setattr(store, "WORTH_MAKING", 0)
    (tmp_path / "source").mkdir()
    Machine.source, Machine.lines = tmp_path / "source", template(tmp_path / "source")
    thorough = settings.default.max_examples > 100
    steps = settings(max_examples=100 if thorough else 3, stateful_step_count=40 if thorough else 10)
    run_state_machine_as_test(Machine, settings=steps)
