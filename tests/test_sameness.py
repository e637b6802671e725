"""Edits that are a program tried before: what is the same, what only looks so, and how far is looked."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import tomli

from gitresearch import sameness, timing
from gitresearch.agents import ProposalFailed
from gitresearch.briefing import Briefing
from gitresearch.lineage import Lineage
from gitresearch.outcome import Run
from gitresearch.policy import Turn
from gitresearch.propose import Proposer
from gitresearch.repo import Repo
from gitresearch.sameness import Tried, meaning
from gitresearch.study import Study, load
from gitresearch.trial import Trial
from tests.build import TIME, add_trial, outcome, record, study_repo
from tests.fakes import FakeAgent

STUDY = """
name = "demo"
[recipe]
train = "python train.py"
[objective]
metric = "{metric}"
[budget]
artefact_bytes = {bytes}
[evaluator]
hook = "hook.py"
[[specialists]]
name = "optimizer"
surface = ["train.py"]
"""
BASE = b'"""Train."""\nLR = 0.1  # the rate\nSTEPS = 1_000\n'
LIKE = b"LR = 0.10\n\n\nSTEPS = (1000)\n"


def a_study(metric: str = "loss", cap: int = 0) -> Study:
    return load(STUDY.format(metric=metric, bytes=cap))


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return study_repo(tmp_path / "repo", files={"train.py": BASE, "notes.txt": b"1\n", "broken.py": b"x = (\n"})


@pytest.fixture
def base(repo: Repo) -> Trial:
    made = repo.make_baseline("demo", repo.head_commit())
    record(repo, made, 2.0, "baseline", n=2, sd=0.01)
    return made


def found(repo: Repo, parent: Trial, edits: Mapping[str, bytes | None], study: Study | None = None) -> str:
    """The trial that the edits repeat; empty for none."""
    study = study or a_study()
    lineage = Lineage.of(study.objective, repo.trials("demo"))
    node = Tried(study, repo.edits, repo.read_file).find(lineage, parent.oid, "optimizer", edits)
    return node.trial.oid if node else ""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (BASE, LIKE, True),
        (b"def f():\n    'told'\n    return 1\n", b"def f(): return 1\n", True),
        (b"x = 1\n", b"\xef\xbb\xbfx = 1\r\n", True),
        (b"'told'\nprint(__doc__)\n", b"'else'\nprint(__doc__)\n", False),
        (b"x = 1\n", b"x = 1.0\n", False),
        (b"x = 1\n", b"x = True\n", False),
        (b"x = 'a b'\n", b"x = 'a  b'\n", False),
        (b"a = 1; b = 2\n", b"b = 2; a = 1\n", False),
        (b"x = (\n", b"x = (  # open\n", False),
        (b"x: 'int' = 1\n", b"x: 'str' = 1\n", False),
        (b"f = '" + b"(" * 5000 + b"'\n", b"f  = '" + b"(" * 5000 + b"'\n", True),
        (b"-" * 100_000 + b"1\n", b"-" * 100_000 + b"1 \n", False),
    ],
)
def test_what_is_the_same_program(one: bytes, other: bytes, *, same: bool) -> None:
    """Layout, comments, docstrings and the way of writing a number are nothing; values, types and order are; what can't
    be parsed is its bytes."""
    assert (meaning("a.py", one) == meaning("a.py", other)) is same
    assert meaning("a.txt", b"x = 1\n") != meaning("a.txt", b"x  = 1\n")


def test_a_like_is_found_wherever_it_stands(repo: Repo, base: Trial) -> None:
    """The parent itself, its child, a step back to what it stands on, and the specialist's latest on another parent."""
    high = add_trial(repo, "raise it", [base], {"train.py": b"LR = 0.3\nSTEPS = 1000\n"})
    more = add_trial(repo, "raise it more", [high], {"train.py": b"LR = 0.9\nSTEPS = 1000\n"})
    aside = add_trial(repo, "note it", [base], {"notes.txt": b"2\n"})
    assert found(repo, base, {"train.py": LIKE}) == base.oid
    assert found(repo, base, {"train.py": b"LR = 0.3 #\nSTEPS = 1000"}) == high.oid
    assert found(repo, more, {"train.py": LIKE}) == base.oid
    assert found(repo, base, {"train.py": b"LR = 0.9; STEPS = 1000"}) == more.oid
    assert found(repo, aside, {"train.py": b"LR = 0.9; STEPS = 1000"}) == ""
    assert found(repo, aside, {"train.py": LIKE, "notes.txt": b"1\n"}) == base.oid
    assert found(repo, base, {"train.py": b"LR = 0.4\nSTEPS = 1000\n"}) == ""
    assert found(repo, base, {"train.py": None}) == ""
    assert found(repo, base, {"broken.py": b"x = (  \n"}) == ""


def test_where_bytes_decide_nothing_is_the_same(repo: Repo, base: Trial) -> None:
    """Fewer comments are what a trial over the cap on bytes may need, and all of it where a study asks for bytes."""
    heavy = add_trial(repo, "raise it", [base], {"train.py": b"LR = 0.3  # long\nSTEPS = 1000\n"})
    edits = {"train.py": b"LR = 0.3\nSTEPS = 1000\n"}
    assert found(repo, base, edits, a_study(cap=100)) == heavy.oid
    assert found(repo, base, edits, a_study("artefact_bytes")) == ""
    record(repo, heavy, None, "size_blocked")
    assert found(repo, base, edits, a_study(cap=100)) == ""
    assert found(repo, heavy, edits, a_study(cap=100)) == ""
    assert found(repo, base, edits) == heavy.oid


def test_how_far_is_looked(repo: Repo, base: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many of the latest and no more; each is read once."""
    monkeypatch.setattr(sameness, "NEAR", 3)
    for number in range(6):
        add_trial(repo, f"step {number}", [base], {"train.py": f"LR = {number}\n".encode()}, time=TIME + number)
    assert found(repo, base, {"train.py": b"LR=5"}) != ""
    assert found(repo, base, {"train.py": b"LR=0"}) == ""
    asked: list[str] = []
    study = a_study()
    lineage = Lineage.of(study.objective, repo.trials("demo"))
    tried = Tried(study, lambda a, b: asked.append(b) or repo.edits(a, b), repo.read_file)  # type: ignore[func-returns-value]
    for number in range(4):
        tried.find(lineage, base.oid, "optimizer", {"train.py": b"LR = 9%d" % number})
    assert len(asked) == len(set(asked)) == 3


def turns_of(repo: Repo, base: Trial, agent: FakeAgent) -> Callable[[], Trial]:
    """Asks the agent for one more trial from the baseline, in the lineage as it stands now."""
    study = a_study()
    lineage = Lineage.of(study.objective, repo.trials("demo"))
    proposer = Proposer(Briefing(repo, study, repo.study_base("demo") or ""), agent)
    turn = Turn(study.specialists[0], "improve", base, 1)
    return lambda: proposer.answer(lineage, proposer.request(lineage, turn))[0]


def test_an_agent_is_told(repo: Repo, base: Trial) -> None:
    """It is asked again with the trial's name, and a turn that only repeats comes to nothing; no trial is made."""
    first = add_trial(repo, "set it", [base], {"train.py": b"VALUE = 5e-1\n"})
    agent = FakeAgent([0.5, 0.5, 0.7])
    answer = turns_of(repo, base, agent)
    trial = answer()
    assert repo.read_file(trial.oid, "train.py") == b"VALUE = 0.7\n"
    like = f"the same program was tried before, but for comments, docstrings or layout, in {first.short}"
    assert [request.again for request in agent.requests] == ["", like, like]
    agent.queue = [0.7] * 3
    with pytest.raises(ProposalFailed, match=f"the same files were tried before, in {trial.short}"):
        answer()  # in a lineage that has not heard of it yet
    assert len(repo.trials("demo")) == 3


def test_what_a_repeat_spares_is_on_record(repo: Repo, base: Trial) -> None:
    """The first run of the program that it repeats, each time; a turn that only repeats is on record for that alone."""
    first = add_trial(repo, "set it", [base], {"train.py": b"VALUE = 0.5\n"})
    runs = (Run(1, "screen", "ok", {"loss": 1.0}, train_seconds=9.0, eval_seconds=1.5), Run(2, "head", "ok"))
    repo.record(first.oid, replace(outcome(1.0), runs=runs))
    agent = FakeAgent([0.5, 0.5, 0.7])
    answer = turns_of(repo, base, agent)
    trial = answer()
    assert tomli.loads((repo.proposal(trial.oid) or b"").decode())["spared_seconds"] == 21.0
    agent.queue = [0.5] * 3
    with pytest.raises(ProposalFailed):
        answer()
    assert timing.repeats(repo.proposals().values(), "demo") == 21.0 + 31.5


def test_the_control_arm_is_told_no_name(repo: Repo, base: Trial) -> None:
    """Agents that are shown no lineage are not shown a trial's name by a refusal."""
    add_trial(repo, "set it", [base], {"train.py": b"VALUE = 5e-1\n"})
    study = load(STUDY.format(metric="loss", bytes=0) + "[agent]\nlineage = false\n")
    lineage = Lineage.of(study.objective, repo.trials("demo"))
    proposer = Proposer(Briefing(repo, study, repo.study_base("demo") or ""), FakeAgent([0.5] * 3))
    with pytest.raises(ProposalFailed, match=r"comments, docstrings or layout$"):
        proposer.answer(lineage, proposer.request(lineage, Turn(study.specialists[0], "improve", base, 1)))
