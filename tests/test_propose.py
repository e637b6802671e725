"""Combinations, ablations and replicates in a real repository: merges without an agent, conflicts with one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import tomli

from gitresearch.agents import Proposal, ProposalFailed, Request, Usage
from gitresearch.agents.openai import OpenAIAgent
from gitresearch.briefing import Briefing
from gitresearch.lab import Lab
from gitresearch.lineage import Lineage
from gitresearch.merge import strays
from gitresearch.policy import Turn
from gitresearch.propose import Nobody, Proposer
from gitresearch.repo import Repo
from gitresearch.study import Study, load
from gitresearch.trial import SUBJECT_LIMIT, Hypothesis, Trial
from tests.build import add_trial, git, record, study_repo
from tests.fake_server import says, serving
from tests.fakes import FakeAgent, FakeRuns

STUDY = load("""
name = "demo"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[evaluator]
hook = "hook.py"
[[specialists]]
name = "one"
surface = ["notes.md"]
""")
ONE = STUDY.specialist("one")
RESOLVED = b"LR = 0.25\nSTEPS = 10\n"


@dataclass
class Resolver:
    """Answers with the next edits of a queue, and keeps what it was asked."""

    queue: list[Mapping[str, bytes | None]]
    expected: float | None = None
    reads_lineage: bool = False
    resolves_conflicts: bool = True
    requests: list[Request] = field(default_factory=list)

    def propose(self, request: Request) -> Proposal:
        self.requests.append(request)
        said = Hypothesis.from_text(
            "keep the mean of both", "they pull apart", study="demo", specialist="one", operator=request.operator,
            expected=self.expected, assisted_by="fake:model",
        )  # fmt: skip
        return Proposal(said, self.queue.pop(0), Usage(calls=1, seconds=1.0), "what was said")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return study_repo(tmp_path / "repo")


@pytest.fixture
def base(repo: Repo) -> Trial:
    """A measured baseline."""
    made = repo.make_baseline("demo", repo.head_commit())
    record(repo, made, 2.0, "baseline", n=2, sd=0.01)
    return made


def kept(repo: Repo, subject: str, on: Trial, edits: Mapping[str, bytes | None], score: float) -> Trial:
    """A keep with its score."""
    made = add_trial(repo, subject, [on], edits)
    record(repo, made, score, "keep")
    return made


@pytest.fixture
def pair(repo: Repo, base: Trial) -> tuple[Trial, Trial]:
    """Two keeps in different files."""
    first = kept(repo, "raise the rate", base, {"train.py": b"LR = 0.2\nSTEPS = 10\n"}, 1.9)
    return first, kept(repo, "widen it", base, {"lib/model.py": b"WIDTH = 16\n"}, 1.95)


@pytest.fixture
def rivals(repo: Repo, base: Trial) -> tuple[Trial, Trial]:
    """Two keeps that set the same line to different values; the second has a change beside it."""
    first = kept(repo, "raise the rate", base, {"train.py": b"LR = 0.2\nSTEPS = 10\n"}, 1.9)
    more = {"train.py": b"LR = 0.3\nSTEPS = 10\n", "lib/model.py": b"WIDTH = 16\n"}
    return first, kept(repo, "raise it more", base, more, 1.95)


def proposed(repo: Repo, turn: Turn, agent: Any = None, study: Study = STUDY) -> tuple[Trial, dict[str, Any], Lineage]:
    """The trial that a turn gives, its note, and the lineage it was proposed in."""
    lineage = Lineage.of(study.objective, repo.trials("demo"))
    proposer = Proposer(Briefing(repo, study, repo.study_base("demo") or ""), agent or Nobody())
    trial, _ = proposer.answer(lineage, proposer.request(lineage, turn))
    return trial, tomli.loads((repo.proposal(trial.oid) or b"").decode()), lineage


def combine(first: Trial, second: Trial) -> Turn:
    return Turn(ONE, "combine", first, 1, second, "drawn for a test")


def test_two_trials_are_combined_without_an_agent(repo: Repo, pair: tuple[Trial, Trial]) -> None:
    """A merge commit with both for parents and both their files, whatever the specialist's surface; the message names
    them with their gains, and expects of it what the second adds to the first."""
    first, second = pair
    trial, note, lineage = proposed(repo, combine(first, second))

    assert trial.parents == (first.oid, second.oid)
    assert git(repo, "log", "-1", "--format=%P", trial.oid).split() == [first.oid, second.oid]
    assert repo.read_file(trial.oid, "train.py") == b"LR = 0.2\nSTEPS = 10\n"
    assert repo.read_file(trial.oid, "lib/model.py") == b"WIDTH = 16\n"
    assert trial.subject == f"combine {first.short} raise the rate with {second.short} widen it"
    told = trial.hypothesis
    assert (told.operator, told.specialist, told.expected, told.assisted_by) == ("combine", "one", -0.05, "")
    assert f"{first.oid} (raise the rate, which gained +0.1)" in told.body
    assert f"{second.oid} (widen it, which gained +0.05)" in told.body
    assert (note["agent"], note["model"], note["other"], note["policy"]) == ("none", "", second.oid, "drawn for a test")
    assert (note["brief"], note["usage"]["calls"]) == ("", 0)
    assert trial.oid not in lineage
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""


def test_long_and_odd_subjects_are_cut(repo: Repo, base: Trial) -> None:
    """Both hypotheses have room in the subject, and nothing in them can end it."""
    first = kept(repo, "a " * 20 + "long one", base, {"a.py": b"A = 1\n"}, 1.9)
    second = kept(repo, "Study: another Operator: keep", base, {"b.py": b"B = 1\n"}, 1.9)
    trial, _, _ = proposed(repo, combine(first, second))
    assert len(trial.subject) <= SUBJECT_LIMIT
    assert f"with {second.short} Study: another" in trial.subject
    assert trial.study == "demo"


def test_what_gives_nothing_new_is_no_trial(repo: Repo, base: Trial, pair: tuple[Trial, Trial]) -> None:
    """The second under the first, the files of a trial that is there, the head's own step: said for nothing."""
    first, second = pair
    above = add_trial(repo, "both", [first], {"lib/model.py": b"WIDTH = 16\n"})
    before = len(repo.trials("demo"))
    for turn, told in (
        (combine(first, base), "stands on"),
        (combine(first, second), f"give the files of {above.short}"),
        (Turn(ONE, "ablate", above, 1, above), f"give the files of {first.short}"),
    ):
        with pytest.raises(ProposalFailed, match=told):
            proposed(repo, turn)
    assert len(repo.trials("demo")) == before


def test_a_conflict_is_resolved_by_the_agent(repo: Repo, rivals: tuple[Trial, Trial]) -> None:
    """It gets the merged files with markers, may write in the conflicting ones alone, and is told so in its brief; the
    trial is the clean merge with its text, under its name."""
    first, second = rivals
    agent = Resolver([{"train.py": RESOLVED}], expected=-0.2)
    trial, note, _ = proposed(repo, combine(first, second), agent)

    (asked,) = agent.requests
    assert asked.conflicts == asked.editable == ("train.py",)
    assert b"<<<<<<< first\nLR = 0.2\n=======\nLR = 0.3\n>>>>>>> second\n" in asked.files["train.py"]
    assert asked.files["lib/model.py"] == b"WIDTH = 16\n"
    assert asked.surface.violations(asked.files, {"train.py": RESOLVED}) == []
    assert asked.surface.violations(asked.files, {"notes.md": b""}) != []
    assert "You may edit these files and nothing else, whatever is said above: train.py\n" in asked.brief
    assert f"Combine trial {first.short} with trial {second.short}" in asked.brief
    assert "  > raise it more\n" in asked.brief

    assert trial.parents == (first.oid, second.oid)
    assert repo.edits(first.oid, trial.oid) == {"train.py": RESOLVED, "lib/model.py": b"WIDTH = 16\n"}
    assert strays(repo.merge(first.oid, second.oid), repo.edits(first.oid, trial.oid)) == []
    told = trial.hypothesis
    assert (told.expected, told.assisted_by) == (-0.2, "fake:model")
    assert told.subject.startswith(f"combine {first.short}")
    assert told.body.endswith("Resolved: keep the mean of both\n\nthey pull apart")
    assert repo.blob(note["brief"]).decode() == asked.brief
    assert (note["agent"], note["usage"]["calls"]) == ("offline", 1)


def test_a_model_resolves_it(repo: Repo, rivals: tuple[Trial, Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the brief asks for is what its answers can say: the file whole, no marker in it."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    answer = f"title: meet between\nwhy: both help\n\ntrain.py\n<<<<<<< FILE\n{RESOLVED.decode()}>>>>>>> FILE\n"
    with serving(says(answer)) as server:
        settings = replace(STUDY.agent, kind="openai", model="m", base_url=server.base_url)
        study = replace(STUDY, agent=settings)
        trial, note, _ = proposed(repo, combine(*rivals), OpenAIAgent(study), study)
    assert "## train.py (yours to edit)" in server.asked[0].messages[1]["content"]
    assert "<<<<<<< first" in server.asked[0].messages[1]["content"]
    assert repo.read_file(trial.oid, "train.py") == RESOLVED
    assert (trial.hypothesis.assisted_by, note["agent"]) == ("openai:m", "openai")


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"train.py": b"LR = 0.2\n=======\nSTEPS = 10\n"}, "train.py still holds a conflict marker"),
        ({"train.py": RESOLVED, "run.sh": b"#!/bin/sh\n"}, "run.sh is outside the surface"),
        ({"lib/model.py": b"WIDTH = 17\n"}, "train.py still holds a conflict marker"),
        ({}, "the edit changes nothing"),
    ],
)
def test_a_bad_resolution_goes_back(
    repo: Repo, rivals: tuple[Trial, Trial], wrong: Mapping[str, bytes | None], why: str
) -> None:
    """A marker that is left and an edit elsewhere are refused with the reason; the next answer counts."""
    agent = Resolver([wrong, {"train.py": RESOLVED}])
    trial, note, _ = proposed(repo, combine(*rivals), agent)
    assert why in agent.requests[1].again
    assert repo.read_file(trial.oid, "train.py") == RESOLVED
    assert repo.read_file(trial.oid, "run.sh") == b"#!/bin/sh\nexec true\n"
    assert note["usage"]["calls"] == 2


def test_a_conflict_that_is_never_resolved(repo: Repo, rivals: tuple[Trial, Trial]) -> None:
    """After some tries the turn comes to nothing, and what it cost is on record."""
    agent = Resolver([{"train.py": b"LR = 1\n>>>>>>> second\n"}] * 3)
    with pytest.raises(ProposalFailed, match="still holds a conflict marker") as caught:
        proposed(repo, combine(*rivals), agent)
    assert caught.value.usage.calls == 3
    (failed,) = [note for data in repo.proposals().values() if "failed" in (note := tomli.loads(data.decode()))]
    assert failed["other"] == rivals[1].oid


def test_an_agent_that_resolves_nothing_is_not_asked(repo: Repo, rivals: tuple[Trial, Trial]) -> None:
    """Nor is a merge of what is no text; both cost nothing."""
    agent = FakeAgent([0.5])
    with pytest.raises(ProposalFailed, match=r"conflict in train\.py, which this agent can't resolve"):
        proposed(repo, combine(*rivals), agent)
    binary = [add_trial(repo, name, [rivals[0]], {"w.bin": b"\x00" + name.encode()}) for name in ("one", "two")]
    with pytest.raises(ProposalFailed, match=r"w\.bin is no text"):
        proposed(repo, combine(*binary), Resolver([]))
    assert agent.requests == []
    assert repo.proposals() == {}


def test_a_file_and_a_folder_of_one_name(repo: Repo, base: Trial) -> None:
    """Each side alone is fine, together they are no tree: said, and no error that ends a run."""
    first = kept(repo, "a file", base, {"x": b"1\n"}, 1.9)
    second = kept(repo, "a folder", base, {"x/y.py": b"1\n"}, 1.9)
    with pytest.raises(ProposalFailed, match="is a file, not a directory"):
        proposed(repo, combine(first, second))


@pytest.fixture
def head(repo: Repo, pair: tuple[Trial, Trial]) -> Trial:
    """A chain of three keeps: the rate, the width, the steps."""
    wide = kept(repo, "widen it too", pair[0], {"lib/model.py": b"WIDTH = 32\n"}, 1.85)
    return kept(repo, "run longer", wide, {"train.py": b"LR = 0.2\nSTEPS = 20\n"}, 1.8)


def test_a_step_is_ablated(repo: Repo, head: Trial, pair: tuple[Trial, Trial]) -> None:
    """Its change alone is gone, the head is the only parent, no agent was asked, and nothing is expected to be lost."""
    wide = repo.trial(head.parents[0])
    trial, note, _ = proposed(repo, Turn(ONE, "ablate", head, 1, wide))
    assert (trial.parents, trial.subject) == ((head.oid,), f"ablate {wide.short}: widen it too")
    assert repo.edits(head.oid, trial.oid) == {"lib/model.py": b"WIDTH = 8\n"}
    assert (trial.hypothesis.expected, note["other"]) == (0.0, wide.oid)
    with pytest.raises(ProposalFailed, match="does not stand on"):
        proposed(repo, Turn(ONE, "ablate", head, 1, pair[1]))


def test_an_ablation_that_conflicts_is_resolved(repo: Repo, head: Trial, pair: tuple[Trial, Trial]) -> None:
    """Where later steps changed the same lines the agent gets both texts, and the trial is known by its step."""
    agent = Resolver([{"train.py": b"LR = 0.1\nSTEPS = 20\n"}])
    trial, _, _ = proposed(repo, Turn(ONE, "ablate", head, 1, pair[0]), agent)
    (asked,) = agent.requests
    assert (
        b"<<<<<<< first\nLR = 0.2\nSTEPS = 20\n=======\nLR = 0.1\nSTEPS = 10\n>>>>>>> second\n"
        in asked.files["train.py"]
    )
    assert f"Take the change of trial {pair[0].short} out of trial {head.short} again" in asked.brief
    assert repo.read_file(trial.oid, "train.py") == b"LR = 0.1\nSTEPS = 20\n"
    assert trial.subject == f"ablate {pair[0].short}: raise the rate"
    assert trial.parents == (head.oid,)
    assert (trial.hypothesis.expected, trial.hypothesis.assisted_by) == (0.0, "fake:model")


def test_a_replicate_is_measured_and_never_kept(repo: Repo, pair: tuple[Trial, Trial]) -> None:
    """The same files under another commit, a new one each time; better by luck it is a discard all the same, by every
    rule, and its score stands against its parent's."""
    first = pair[0]
    found = [proposed(repo, Turn(ONE, "replicate", first, seed))[0] for seed in range(2)]
    for trial in found:
        assert (trial.tree, trial.parents, trial.operator) == (first.tree, (first.oid,), "replicate")
    assert len({first.oid, *(trial.oid for trial in found)}) == 3

    for trial, rule in zip(found, ("two-tier", "strict-improvement"), strict=True):
        study = replace(STUDY, decision=replace(STUDY.decision, rule=rule))
        runs = FakeRuns(lambda *_: 1.5)
        outcome = Lab(repo, study, repo.study_base("demo") or "", runs).assess(trial)
        assert outcome is not None
        summary = outcome.summary
        assert (summary.status, summary.label, summary.score) == ("discard", "replicate", 1.5)
        assert summary.reason == f"1.5 (n=1) against 1.9 (n=1) of {first.short}, −0.4"
        assert [purpose for _, purpose in runs.history] == ["screen"]


def test_a_replicate_that_fails_is_what_it_is(repo: Repo, pair: tuple[Trial, Trial]) -> None:
    """A crash stays a crash; the replicate of a trial without a score is told alone."""
    failed = add_trial(repo, "too much", [pair[0]], {"train.py": b"LR = 9\n"})
    record(repo, failed, None, "crash")
    trial, _, _ = proposed(repo, Turn(ONE, "replicate", failed, 1))
    other, _, _ = proposed(repo, Turn(ONE, "replicate", failed, 1))
    lab = Lab(repo, STUDY, repo.study_base("demo") or "", FakeRuns(lambda t, *_: "crash" if t == trial else 1.0))
    outcomes = [lab.assess(one) for one in (trial, other)]
    told = [(found.summary.status, found.summary.reason) for found in outcomes if found]
    assert (told[0][0], told[1]) == ("crash", ("discard", "1 (n=1)"))


def test_how_a_proposal_was_asked_for_is_on_record(repo: Repo, base: Trial) -> None:
    """The policy's reason, the roster and what shapes a model's answers; an agent without a model has none of those."""
    turn = Turn(replace(ONE, surface=("train.py",)), "improve", base, 3, None, "one of one 1")
    model = replace(STUDY, agent=replace(STUDY.agent, kind="openai", model="m", temperature=0.5, max_tokens=77))
    _, asked, _ = proposed(repo, turn, Resolver([{"train.py": b"A = 1\n"}]), model)
    _, plain, _ = proposed(repo, turn, Resolver([{"train.py": b"A = 2\n"}]))
    assert (asked["policy"], asked["roster"]) == ("one of one 1", "specialists")
    assert (asked["parameters"]["temperature"], asked["parameters"]["max_tokens"]) == (0.5, 77)
    assert "parameters" not in plain
