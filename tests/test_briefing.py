"""Briefs of a real repository: what `brief` prints is what an agent is sent, and it says which axes nobody touched."""

from dataclasses import replace
from pathlib import Path

import pytest

from gitresearch.briefing import Briefing
from gitresearch.cli.main import run
from gitresearch.errors import GitResearchError
from gitresearch.lineage import Lineage
from gitresearch.policy import Turn, next_turn
from gitresearch.propose import Proposer
from gitresearch.repo import Repo
from gitresearch.study import load
from gitresearch.trial import Hypothesis
from tests.build import plain_repo, record
from tests.fakes import FakeAgent

TOML = """
name = "demo"
knowledge = ["docs/known.md"]
[recipe]
train = "python train.py"
root = "src"
[objective]
metric = "loss"
[evaluator]
pattern = '''loss: (\\S+)'''
[[specialists]]
name = "one"
surface = ["src/"]
[[specialists]]
name = "two"
surface = ["src/train.py::VALUE"]
"""
FILES = {
    "src/train.py": b"VALUE = 0\nWIDTH = 8\n",
    "src/net.py": b"def net(): ...\n",
    "docs/known.md": b"# Known\nsmall is fast\n",
    "study.toml": TOML.encode(),
}


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A study with a measured baseline and one trial of specialist one."""
    repo = Repo.open(plain_repo(tmp_path / "r", FILES), durable=False)
    repo.pin_study("demo", repo.head_commit())
    record(repo, repo.make_baseline("demo", repo.head_commit()), 1.0, "baseline", n=2, sd=0.01)
    return repo


def shown(repo: Repo, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    capsys.readouterr()
    assert run(["-C", str(repo.workdir), "brief", "one", *more]) == 0
    return capsys.readouterr().out


def test_what_is_printed_is_what_is_sent(repo: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    """Byte for byte, with failures' log lines and knowledge, and in the control arm too."""
    study = load(TOML)
    briefing = Briefing(repo, study, repo.study_base("demo") or "")
    lineage = Lineage.of(study.objective, repo.trials("demo"))
    head = lineage.head
    assert head is not None
    assert shown(repo, capsys) == briefing.text(lineage, study.specialist("one"), head.trial.oid)
    assert "small is fast" in shown(repo, capsys)
    bare = shown(repo, capsys, "--no-lineage")
    assert "small is fast" in bare
    assert head.trial.short not in bare


def test_axes_that_nobody_changed_are_named(repo: Repo) -> None:
    """By symbol, against each trial's own parent; for a specialist without trials there is nothing to say."""
    study = load(TOML)
    baseline = next(iter(repo.trials("demo"))).trial
    hypothesis = Hypothesis("set it", "demo", "one")
    repo.make_trial(hypothesis, [baseline.oid], {"src/train.py": b"VALUE = 1\nWIDTH = 8\n"})
    lineage = Lineage.of(study.objective, repo.trials("demo"))
    briefing = Briefing(repo, study, repo.study_base("demo") or "")
    one, two = study.specialists
    assert briefing.untouched(lineage, one, baseline.oid) == ["src/net.py::net", "src/train.py::WIDTH"]
    assert briefing.untouched(lineage, two, baseline.oid) == []
    assert "> src/net.py::net, src/train.py::WIDTH" in briefing.text(lineage, one, baseline.oid)


def test_a_knowledge_file_that_is_not_there(repo: Repo) -> None:
    """Said with the command to type, before anything is proposed."""
    study = load(TOML.replace("known.md", "none.md"))
    briefing = Briefing(repo, study, repo.study_base("demo") or "")
    for _ in range(2):  # the second time too
        with pytest.raises(GitResearchError, match=r"docs/none\.md is not in commit") as caught:
            briefing.text(Lineage(study.objective), study.specialist("one"), "0" * 40)
    assert "git add docs/none.md" in caught.value.hint


def test_the_control_arm_gets_its_parent_and_no_other_trial(repo: Repo) -> None:
    """Neither in the brief nor in the lineage that an agent may read; and no repair of a failure it can't see."""
    study = load(TOML)
    bare = replace(study, agent=replace(study.agent, lineage=False))
    baseline = next(iter(repo.trials("demo"))).trial
    hypothesis = Hypothesis("set it", "demo", "one")
    made = repo.make_trial(hypothesis, [baseline.oid], {"src/train.py": b"VALUE = 1\nWIDTH = 8\n"})
    record(repo, made, None, "crash")
    lineage = Lineage.of(study.objective, repo.trials("demo"))
    for asked, seen in ((study, 2), (bare, 1)):
        proposer = Proposer(Briefing(repo, asked, repo.study_base("demo") or ""), FakeAgent([]))
        request = proposer.request(lineage, Turn(study.specialist("one"), "improve", baseline, 0))
        assert len(request.lineage) == seen
        assert ("set it" in request.brief) == (asked is study)
        turns = [next_turn(asked, lineage, {"two": 9}, {"two"}, seed) for seed in range(20)]
        assert any(turn and turn.operator == "repair" for turn in turns) == (asked is study)
