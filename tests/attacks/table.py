"""Where messages and answers come in: a study in a real repository, and an agent with a scripted model behind it."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from gitresearch.agents import Proposal, Request
from gitresearch.agents.openai import OpenAIAgent
from gitresearch.answers import parse
from gitresearch.briefing import Briefing
from gitresearch.edit import edits_of
from gitresearch.evaluate import RunResult
from gitresearch.lab import Lab
from gitresearch.outcome import Failure
from gitresearch.repo import Repo
from gitresearch.study import load
from gitresearch.surface import Edits, Surface
from gitresearch.trial import Trial
from tests.build import add_trial, record, study_repo
from tests.fake_server import says, serving
from tests.fakes import FakeRuns

STUDY = """
name = "demo"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[evaluator]
hook = "hook.py"
[agent]
kind = "openai"
model = "tiny"
base_url = "http://127.0.0.1:9/v1"
timeout_seconds = 5
tools = false
[[specialists]]
name = "optimizer"
surface = ["train.py"]
"""
ANSWER = """title: TITLE
why: WHY

PATH
<<<<<<< FILE
TEXT
>>>>>>> FILE
"""


def answer(path: str = "train.py", text: str = "LR = 0.2", title: str = "raise the rate", why: str = "") -> str:
    """A model's answer that writes one file whole."""
    return ANSWER.replace("TITLE", title).replace("WHY", why).replace("PATH", path).replace("TEXT", text)


def edits(text: str, surface: Sequence[str] = ("**",)) -> Edits:
    """What an answer's edits come to, as a specialist's who may edit all that it can name."""
    return edits_of(parse(text), {"train.py": b"LR = 0.1\n"}, Surface.of(surface))


def git_trailers(message: str) -> str:
    """The trailers that git itself reads in a message."""
    done = subprocess.run(
        ["git", "interpret-trailers", "--parse"], input=message.encode(), capture_output=True, check=True
    )
    return done.stdout.decode()


@dataclass
class Says(FakeRuns):
    """Runs that fail, with these lines in their log."""

    lines: tuple[str, ...] = field(default=())

    def _failed(self, seed: int, purpose: str, status: str, label: str) -> RunResult:
        found = super()._failed(seed, purpose, status, label)
        return RunResult(found.run, Failure("train", "ValueError", self.lines))


@dataclass
class Table:
    """A study of one baseline."""

    top: Path

    @cached_property
    def repo(self) -> Repo:
        return study_repo(self.top / "repo")

    @cached_property
    def base(self) -> str:
        return self.repo.study_base("demo") or ""

    @cached_property
    def baseline(self) -> Trial:
        made = self.repo.make_baseline("demo", self.base)
        record(self.repo, made, 1.0, "baseline", n=2, sd=0.1)
        return made

    def brief_after(self, *lines: str, subject: str = "raise the rate") -> str:
        """What a specialist is shown after a trial that failed with these lines. It failed, whatever they say."""
        trial, study = add_trial(self.repo, subject, [self.baseline]), load(STUDY)
        lab = Lab(self.repo, study, self.base, Says(lambda *_: "crash", lines=lines))
        outcome = lab.assess(trial)
        assert outcome is not None
        assert (outcome.summary.status, outcome.summary.score) == ("crash", None)
        return Briefing(self.repo, study, self.base).text(lab.lineage, study.specialists[0], trial.oid)

    def proposal(self, text: str) -> Proposal:
        """What comes of a model that says this, however often it is asked again."""
        with serving(*[says(text)] * 4) as server:
            study = load(STUDY.replace("http://127.0.0.1:9/v1", server.base_url))
            briefing = Briefing(self.repo, study, self.base)
            lab = Lab(self.repo, study, self.base, FakeRuns(lambda *_: 1.0))
            request = Request(
                study=study, specialist=study.specialists[0], operator="improve", parent=self.baseline,
                files={**briefing.files_of(self.base), "study.toml": b"", "hook.py": b"", "allowed_signers": b""},
                brief="", lineage=lab.lineage, files_of=briefing.files_of, seed=0,
            )  # fmt: skip
            return OpenAIAgent(study).propose(request)
