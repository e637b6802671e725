"""The holdout: what its runs say, who is told, and that nothing is decided by them."""

import json
import random
import re
import shutil
import time
from collections import Counter
from contextlib import closing, nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gitresearch import holdout
from gitresearch.agents.desk import Desk
from gitresearch.audit import holdouts
from gitresearch.audit.outcomes import Pins, check
from gitresearch.briefing import Briefing
from gitresearch.cli.main import run as gitresearch
from gitresearch.errors import GitResearchError
from gitresearch.evaluate import Evaluator
from gitresearch.holdout import Side
from gitresearch.lab import Lab
from gitresearch.loop import Loop, Plan, Stop
from gitresearch.outcome import HOLDOUT, Outcome, Run, utc
from gitresearch.policy import next_turn
from gitresearch.propose import Proposer
from gitresearch.repo import Repo
from gitresearch.sandbox import Sandbox
from gitresearch.serve import Service
from gitresearch.study import Objective, Study, StudyError, load
from gitresearch.trial import Trial
from tests.build import git, outcome, plain_repo
from tests.fakes import FakeAgent, FakeRuns
from tests.test_lab import killed
from tests.test_loop import Quiet, value_of

TOML = """
name = "s"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[evaluator]
hook = "hook/hook.py"
[seeds]
baseline = 3
head = 1
confirm = 3
holdout = 2
[decision]
every = 1
[[specialists]]
name = "one"
surface = ["train.py"]
"""
STUDY = load(TOML)
SEARCHED = replace(STUDY, agent=replace(STUDY.agent, lineage=False))  # every turn starts from the head
LATER = count()
SECRET = 7.77  # what is added to every score on the holdout


def runs(purpose: str, *values: float, status: str = "ok") -> list[Run]:
    seeds = count(hash((purpose, values)) % 1000)
    return [Run(next(seeds), purpose, status, {"loss": value}) for value in values]


def sides(sign: float, study: Study) -> tuple[Side, dict[str, Any]]:
    """A baseline, and what is said of a trial beside it, of values worked by hand."""
    base = holdout.side(study, [*runs("baseline", *(sign * x for x in (2.0, 2.1, 1.9))),
                                *runs(HOLDOUT, sign * 2.2, sign * 2.3)])  # fmt: skip
    assert base is not None
    late = runs("confirm", sign * 9.0)  # under way when two seeds decided the claim
    made = [*runs("screen", sign * 1.0), *runs("confirm", sign * 1.5, sign * 1.6), *late,
            *runs(HOLDOUT, sign * 1.9, sign * 2.0, sign * 0.1)]  # fmt: skip
    return base, holdout.facts(study, made, {"claim_n": 2}, base, 1)


@pytest.mark.parametrize(("sign", "direction"), [(1.0, "min"), (-1.0, "max")])
def test_growth_by_hand(sign: float, direction: str) -> None:
    """Gap 0.25 and 0.4, growth 0.15; squares 0.035 with 5 degrees of freedom, 11/6 seeds' worth of error; a third run
    on the holdout and a late confirmation count for nothing, and which direction is better changes no figure."""
    base, told = sides(sign, replace(STUDY, objective=Objective("loss", direction)))
    assert base == Side(sign * 2.25, 2, *(pytest.approx(x) for x in (0.25, 3, (0.025 / 3) ** 0.5)), 3)
    assert told.pop("holdout_verdict") == "steady"
    wanted = {"score": sign * 1.95, "n": 2, "gap": 0.4, "seeds": 2, "query": 1, "gain": 0.3, "growth": 0.15}
    wanted |= {"se": (0.007 * 11 / 6) ** 0.5, "df": 5, "p": 0.12138}
    wanted |= {f"base_{name}": getattr(base, name) for name in ("score", "n", "gap", "seeds", "sd", "df")}
    assert told == pytest.approx({f"holdout_{name}": value for name, value in wanted.items()}, rel=1e-3)


def test_what_has_no_spread_or_failed_has_no_growth_to_judge() -> None:
    """Seeds that all agree give no standard error and no verdict; a failed run is told, and the rest with it."""
    base = holdout.side(STUDY, [*runs("baseline", 2.0, 2.0), *runs(HOLDOUT, 2.5)])
    made = [*runs("confirm", 1.0, 1.0), *runs(HOLDOUT, 1.9)]
    assert base is not None
    exact = holdout.facts(STUDY, made, {"claim_n": 2}, base, 1)
    assert (exact["holdout_growth"], exact["holdout_se"], "holdout_verdict" in exact) == (
        pytest.approx(0.4),
        0.0,
        False,
    )
    assert holdout.facts(STUDY, runs("confirm", 1.0), {"claim_n": 1}, base, 1) == {}
    bad = [*made, Run(5, HOLDOUT, "crash"), Run(6, HOLDOUT, "harness_abort")]
    assert holdout.facts(STUDY, bad, {"claim_n": 2}, base, 1)["holdout_verdict"] == "failed"
    assert holdout.facts(STUDY, bad[1:] + bad[:1], {"claim_n": "2"}) == {
        "holdout_ended": "crash", "holdout_verdict": "failed",
    }  # fmt: skip


def test_the_words_for_people() -> None:
    """Better and worse instead of signs; a note that tells nonsense is told as it is, and ends nobody."""
    _, facts = sides(1.0, STUDY)
    said = Outcome(outcome().summary, decision=facts)
    assert holdout.told(said) == (
        "the gap to the holdout is steady: 1.95 there (n=2), 0.4 worse than on the held-out data; the baseline 0.25 "
        "worse; grown by 0.15, standard error 0.1133, p = 0.1214; it gains 0.3 there; query 1 of it"
    )
    better = replace(said, decision=facts | {"holdout_gap": -0.4})
    assert "0.4 better than" in holdout.told(better)
    odd = replace(said, decision={"holdout_growth": True, "holdout_score": "x", "holdout_verdict": 7})
    assert holdout.told(odd).startswith("the holdout: x there (n=None), None than")
    assert holdout.told(outcome()) == ""


def test_chance_seldom_warns_and_a_planted_overfit_does() -> None:
    """Of 1,000 studies whose trial gains the same on both splits fewer than 1.5 % warn (0.67 % by t); where 7 σ of the
    gain are on the held-out data alone, more than 95 % do."""
    rng = random.Random(1)

    def draw(number: int, mean: float) -> list[float]:
        return [rng.gauss(mean, 1.0) for _ in range(number)]

    def warns(overfit: float) -> bool:
        base = holdout.side(STUDY, [*runs("baseline", *draw(5, 0.0)), *runs(HOLDOUT, *draw(2, 3.0))])
        made = [*runs("confirm", *draw(5, -10.0)), *runs(HOLDOUT, *draw(2, -7.0 + overfit))]
        return bool(holdout.facts(STUDY, made, {"claim_n": 5}, base, 1)["holdout_verdict"] == "grown")

    assert sum(warns(0.0) for _ in range(1000)) < 15
    assert sum(warns(7.0) for _ in range(1000)) > 950


def test_a_study_says_when_it_can_have_none() -> None:
    """A pattern has no second split, and strict improvement no claim."""
    with pytest.raises(StudyError, match=r"seeds\.holdout needs evaluator\.hook"):
        load(TOML.replace('hook = "hook/hook.py"', 'pattern = "loss: (.*)"'))
    with pytest.raises(StudyError, match=r"seeds\.holdout is for what a claim confirms"):
        load(TOML.replace("every = 1", 'rule = "strict-improvement"'))


@pytest.mark.parametrize(
    ("split", "why"),
    [("", "makes none"), ("held_out", "makes none"), ("train/holdout", "trials would see"), ("holdout", "")],
)
def test_a_hook_must_make_one_where_no_trial_looks(tmp_path: Path, split: str, why: str) -> None:
    """No folder, the held-out data once more, or one inside the training data is said before a trial is spent."""
    folders = {name: str(tmp_path / name) for name in ("train", "held_out")} | {"digest": "sha256:1"}
    answer = folders | ({"holdout": str(tmp_path / split)} if split else {})
    repo = begun(tmp_path / "s", f"print({json.dumps(json.dumps(answer))})")
    with closing(Evaluator(repo, STUDY, repo.head_commit(), Sandbox("none", ""), tmp_path / "cache")) as evaluator:
        with pytest.raises(GitResearchError, match=why) if why else nullcontext():
            evaluator.prepare()
        assert ("holdout" in evaluator.data) == (split in ("train/holdout", "holdout"))


# -----------------------------------------------------------------------------
# through the loop


def begun(top: Path, hook: str = "") -> Repo:
    """A repository with a recipe whose VALUE is 1.0, its study begun."""
    files = {"train.py": "VALUE = 1.0\n", "study.toml": TOML, "hook/hook.py": hook}
    repo = Repo.open(plain_repo(top, {name: text.encode() for name, text in files.items()}), durable=False)
    repo.pin_study("s", repo.head_commit())
    return repo


class Scores:
    """A trial's VALUE and noise that its runs have in their order; on the holdout a secret more, and of one trial half
    a unit beyond that."""

    def __init__(self, repo: Repo, overfit: float = 0.0, ends: str = "") -> None:
        self.repo, self.overfit, self.ends = repo, overfit, ends
        self.made: Counter[tuple[float, str]] = Counter()

    def __call__(self, trial: Trial, _seed: int, purpose: str) -> float | str:
        value = value_of(self.repo, trial)
        self.made[value, purpose] += 1
        noise = random.Random(f"{value} {purpose} {self.made[value, purpose]}").uniform(-0.001, 0.001)
        if purpose != HOLDOUT:
            return value + noise
        if self.ends and value < 1.0:
            return self.ends
        return SECRET + value + noise + (0.5 if value == self.overfit else 0.0)


def searched(repo: Repo, study: Study, scores: Scores, *values: float) -> tuple[Loop, FakeAgent, Quiet]:
    """The loop, run to its end; a second goes by whenever it looks, so that each keep comes after the last claim."""
    made = FakeRuns(scores)
    lab = Lab(repo, study, repo.study_base("s") or "", made)
    agent, watcher = FakeAgent(list(values)), Quiet()
    proposer = Proposer(Briefing(repo, study, lab.base), agent)
    loop = Loop(lab, proposer, Plan(trials=len(values)), Stop(), watcher)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("books", "lab"):
            patch.setattr(f"gitresearch.{module}.now", lambda: utc(time.time() + next(LATER)))
        loop.run()
    return loop, agent, watcher


def by_value(loop: Loop) -> dict[float, Outcome]:
    repo = loop.lab.repo
    found = ((value_of(repo, node.trial), repo.outcome(node.trial.oid)) for node in loop.lab.lineage)
    return {value: outcome for value, outcome in found if outcome}


def findings(loop: Loop, told: dict[float, Outcome] | None = None) -> list[str]:
    """What an audit finds in outcomes, each by itself and between them: those that stand, or others in their place."""
    lab, pins = loop.lab, Pins(loop.lab.base, "")
    said = {value_of(lab.repo, node.trial): node.trial for node in lab.lineage}
    outcomes = by_value(loop) | (told or {})
    alone = [
        claim
        for value, one in outcomes.items()
        for claim, _ in (*check(lab.study, said[value], one, pins), *holdouts.check(lab.study, one))
    ]
    between = holdouts.across(lab.study, [{said[value].oid: [one] for value, one in outcomes.items()}])
    return [claim for claim in (*alone, *(claim for _, claim, _ in between)) if claim[:8] != "measured"]


SEARCH = (0.9, 1.2, 0.5, 0.8, 0.3)


@pytest.fixture(scope="module")
def with_holdout(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loop, FakeAgent, Quiet]:
    repo = begun(tmp_path_factory.mktemp("with") / "s")
    return searched(repo, SEARCHED, Scores(repo, overfit=0.3), *SEARCH)


def test_the_baseline_and_what_is_confirmed_are_scored_on_it(with_holdout: tuple[Loop, FakeAgent, Quiet]) -> None:
    """Two runs each and no others, the queries in their order; the one that gains on the held-out data alone is told,
    once a run, and an audit finds nothing."""
    loop, _, watcher = with_holdout
    found = by_value(loop)
    made = {value: sum(run.purpose == HOLDOUT for run in one.runs) for value, one in found.items()}
    assert made == {1.0: 2, 0.9: 2, 1.2: 0, 0.5: 2, 0.8: 0, 0.3: 2}
    assert [found[value].decision[holdout.QUERY] for value in (0.9, 0.5, 0.3)] == [1, 2, 3]
    assert [found[value].decision["holdout_verdict"] for value in (0.9, 0.5, 0.3)] == ["steady", "steady", "grown"]
    assert found[0.3].decision["holdout_growth"] == pytest.approx(0.5, abs=0.003)
    assert holdout.told(found[1.0]).startswith("the holdout: 8.771 there (n=2), 7.771 worse than on the held-out data")
    assert findings(loop) == []
    assert [word.split(": ")[1] for word in watcher.words] == ["the gap to the holdout has grown"] * 2


def test_nothing_is_decided_by_it(with_holdout: tuple[Loop, FakeAgent, Quiet], tmp_path: Path) -> None:
    """Without a holdout the same search comes to the same statuses, scores, claims, references and briefs."""
    repo = begun(tmp_path / "s")
    study = replace(SEARCHED, seeds=replace(STUDY.seeds, holdout=0))
    loop, _, _ = searched(repo, study, Scores(repo), *SEARCH)
    assert HOLDOUT not in {run.purpose for one in by_value(loop).values() for run in one.runs}
    assert plain(loop) == plain(with_holdout[0])
    assert sorted(bare(briefs(loop)).split("\n")) == sorted(bare(briefs(with_holdout[0])).split("\n"))


def test_a_run_on_it_is_no_new_ground(with_holdout: tuple[Loop, FakeAgent, Quiet]) -> None:
    """A specialist that rests for want of edits is woken by a keep, and not by its run on the holdout."""
    loop, best = with_holdout[0], with_holdout[0].lab.lineage.best
    assert best is not None
    told = by_value(loop)[0.3]
    loop.state.fruitless["one"] = 3
    loop._settled(best.trial, told)
    assert (told.runs[-1].purpose, loop.state.fruitless["one"]) == (HOLDOUT, 3)
    loop._settled(best.trial, holdout.without(told))
    assert not loop.state.fruitless


def plain(loop: Loop) -> dict[float, Any]:
    """What stands in the outcomes, without the holdout, and without names and times."""
    found = {}
    for value, one in by_value(loop).items():
        facts = {n: x for n, x in holdout.without(one).decision.items() if n not in ("against", "claim_at")}
        seeds = [(run.purpose, run.metrics) for run in holdout.without(one).runs]
        found[value] = (one.summary._replace(at="", seconds=0.0), facts, seeds)
    return found


def briefs(loop: Loop) -> str:
    """What a specialist would be shown of the whole lineage, from each trial."""
    briefing = Briefing(loop.lab.repo, STUDY, loop.lab.base)
    nodes = list(loop.lab.lineage)
    return "\n".join(briefing.text(loop.lab.lineage, STUDY.specialists[0], node.trial.oid) for node in nodes)


def bare(text: str) -> str:
    """A brief without the names of trials."""
    return re.sub(r"\b[0-9a-f]{8}\b", "", text)


def test_no_agent_is_shown_it(with_holdout: tuple[Loop, FakeAgent, Quiet]) -> None:
    """Neither a word nor a figure of it in the briefs, in what the desk and the protocol answer about every trial, nor
    in the outcomes that an agent is handed; a person is shown all of it."""
    loop, agent, _ = with_holdout
    lab, briefing = loop.lab, Briefing(loop.lab.repo, STUDY, loop.lab.base)
    service = Service(briefing, lambda: lab.lineage)
    turn = next_turn(STUDY, lab.lineage, {}, set(), 0)
    assert turn is not None
    request = Proposer(briefing, agent).request(lab.lineage, turn)
    said = [briefs(loop), request.brief, service.call("brief", '{"specialist": "one"}')[0]]
    for node in lab.lineage:
        named = json.dumps({"trial": node.trial.oid})
        said += [Desk(request).call(tool, named) for tool in ("show", "diff")]
        said += [service.call(tool, named)[0] for tool in ("show", "outcome", "diff")]
        said += [str(request.outcome_of(node.trial.oid)), repr(node)]
    said += [Desk(request).call("trials", "{}"), service.call("lineage", "{}")[0]]
    text = "\n".join(said)
    hidden = [run.metrics["loss"] for one in by_value(loop).values() for run in one.runs if run.purpose == HOLDOUT]
    assert len(hidden) == 8
    assert not [value for value in hidden if f"{value:.3g}" in text]
    assert "holdout" not in text
    assert all(f"{run.metrics['loss']:.6g}" in text for one in by_value(loop).values() for run in one.runs[:1])


@pytest.mark.parametrize(
    ("claim", "value", "lie"),
    [
        ("a holdout that its runs give", 0.3, {"holdout_verdict": "steady"}),
        ("a holdout that its runs give", 0.3, {"holdout_score": 8.07}),
        ("a holdout that its runs give", 0.3, dict.fromkeys(("holdout_growth", "holdout_se", "holdout_verdict"))),
        ("a holdout that its runs give", 1.2, {"holdout_score": 8.97, "holdout_n": 2}),
        ("a holdout that the baseline had too", 0.3, {"holdout_base_gap": 8.26}),
        ("a holdout that the baseline had too", 0.3, None),
        ("each query of the holdout counts", 0.3, {"holdout_query": 1}),
        ("a holdout that its runs give", 0.3, {"holdout_query": 0}),
    ],
)
def test_what_is_said_of_it_must_follow(
    with_holdout: tuple[Loop, FakeAgent, Quiet], claim: str, value: float, lie: dict[str, Any] | None
) -> None:
    """A gap that is denied, left out or made up, another baseline or none, and a query that is counted twice or never,
    also where all other figures are made to fit."""
    loop, _, _ = with_holdout
    told = by_value(loop)[value]
    facts = {**told.decision, **(lie or {})}
    if lie is None or "holdout_base_gap" in lie:  # worked out again, as a clever forger would
        base = holdouts._base(facts) if lie else None
        rest = {name: x for name, x in facts.items() if not name.startswith("holdout_")}
        facts = rest | holdout.facts(STUDY, told.runs, rest, base, 3)
    facts = {name: x for name, x in facts.items() if x is not None}
    assert claim in findings(loop, {value: replace(told, decision=facts)})


def test_a_run_that_fails_there_costs_nothing_and_is_told(tmp_path: Path) -> None:
    """The trial stays the confirmed best, is not asked again, and an audit is content; what it printed is nowhere."""
    repo = begun(tmp_path / "s")
    loop, _, watcher = searched(repo, STUDY, Scores(repo, ends="crash"), 0.5)
    found = by_value(loop)[0.5]
    assert (found.summary.status, found.summary.confirmed, found.failure) == ("keep", True, None)
    assert found.decision["holdout_ended"] == "crash"
    assert [run.status for run in found.runs if run.purpose == HOLDOUT] == ["crash", "crash"]
    assert loop.lab.holdout_due() is None
    assert findings(loop) == []
    assert "scored on the holdout it ended in crash" in "\n".join(watcher.words)
    assert b"the decisive line" not in found.note()


def test_it_goes_on_after_a_kill_and_when_the_budget_is_spent(tmp_path: Path) -> None:
    """A run that was killed is on record and made again by the next loop, which proposes nothing; one that was taken
    back keeps its number."""
    repo = begun(tmp_path / "s")
    off = replace(STUDY, seeds=replace(STUDY.seeds, holdout=0))
    loop, _, _ = searched(repo, off, Scores(repo), 0.5)
    best = loop.lab.lineage.best
    assert best is not None
    killed(repo, best.trial, HOLDOUT)
    again, _, _ = searched(repo, STUDY, Scores(repo))
    found = by_value(again)
    assert [run.status for run in found[0.5].runs if run.purpose == HOLDOUT] == ["harness_abort", "ok", "ok"]
    assert sum(run.purpose == HOLDOUT for run in found[1.0].runs) == 2
    assert (found[0.5].decision["holdout_verdict"], found[0.5].decision[holdout.QUERY]) == ("steady", 1)
    assert findings(again) == []
    again.lab.revoke(best.trial, "the machine was hot")
    last, _, _ = searched(repo, STUDY, Scores(repo), 0.4)
    assert by_value(last)[0.4].decision[holdout.QUERY] == 2
    assert findings(last) == []


# -----------------------------------------------------------------------------
# through the command line

HOOK = """\
import json, os, sys
from pathlib import Path

request = json.load(sys.stdin)

def prepare():
    top = Path(request["cache"]) / "splits"
    for split, learnt in (("train", ""), ("held_out", "1"), ("holdout", "0")):
        (top / split).mkdir(parents=True, exist_ok=True)
        (top / split / "learnt.txt").write_text(learnt)
    return {split: str(top / split) for split in ("train", "held_out", "holdout")} | {"digest": "sha256:1"}

def score():
    told = json.loads((Path(request["artefact"]) / "told.json").read_bytes())
    learnt = int((Path(request["held_out"]) / "learnt.txt").read_text())
    return {"metrics": {"loss": told["loss"] - learnt * told["memorised"]}}

verbs = {"prepare": prepare, "score": score, "measure": lambda: {"artefact_bytes": 1}}
json.dump(verbs.get(sys.argv[1], lambda: {"ok": True})(), sys.stdout)
"""
TRAIN = """\
import json, os, random
SKILL = 0.0
# Two changes that are proposed apart must lie apart.
#
#
MEMORISED = 0.0
assert os.listdir(os.environ["GITRESEARCH_DATA"]) == ["learnt.txt"]
noise = random.Random(int(os.environ["GITRESEARCH_SEED"])).gauss(0, 0.01)
with open(os.environ["GITRESEARCH_ARTEFACT"] + "/told.json", "w") as file:
    json.dump({"loss": 2 - SKILL + noise, "memorised": MEMORISED}, file)
"""


@pytest.mark.slow
def test_from_a_recipe_to_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two changes are confirmed, one that the holdout shows and one that it does not: `show`, `best` and `status` tell
    which, `brief` tells nothing, and the audit finds nothing to say."""
    files = {"train.py": TRAIN, "study.toml": TOML.replace('"s"', '"mine"'), "hook/hook.py": HOOK}
    top = plain_repo(tmp_path / "mine", {name: text.encode() for name, text in files.items()})
    allowed = [] if shutil.which("bwrap") else ["--allow-unsandboxed"]

    def do(*words: str) -> str:
        capsys.readouterr()
        assert gitresearch(["-C", str(top), *words]) == 0
        said = capsys.readouterr()
        return said.out + (said.err if words[0] == "run" else "")

    (top / "allowed_signers").write_text(f"{Repo.open(top).signer_line()}\n")
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "-m", "list the evaluator")
    do("run", "--trials", "0", *allowed)
    verdicts = {}
    for name in ("SKILL", "MEMORISED"):
        (top / "train.py").write_text(TRAIN.replace(f"{name} = 0.0", f"{name} = 0.5"))
        do("propose", "--from-worktree", "-m", f"raise {name}")
        said = do("run", "--trials", "0", *allowed)
        best = json.loads(do("best", "--json"))
        assert best["best"]["hypothesis"] == f"raise {name}"
        verdicts[name] = best["holdout"]["verdict"]
        assert ("the gap to the holdout has grown" in said) == (name == "MEMORISED")
    assert verdicts == {"SKILL": "steady", "MEMORISED": "grown"}
    for words in (["show", "best", "--no-diff"], ["best"], ["status"]):
        assert "the gap to the holdout has grown: 1.5 there" in re.sub(r"1\.[45]\d* there", "1.5 there", do(*words))
    assert "holdout" not in do("brief", "one")
    do("audit")
