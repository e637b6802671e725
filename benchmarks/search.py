"""Is the offline agent better than luck? Both arms side by side on the same problems, budgets and seeds of noise.

    python benchmarks/search.py                 # a made-up response surface over the shipped recipe's real levers
    python benchmarks/search.py --first 200 --repetitions 60    # other problems, more of them

Arms: `offline` is the agent as it ships. `random` has the same levers, the same operators (one to three levers a
trial; a repair draws the failed change anew) and the same never-twice rule, and draws everything uniformly. Turns and
head rule are the loop's own for both: `next_turn`, one screening run, a fresh run where it looks better.

How the surface is made (`Surface`), for each repetition from its own seed, before any arm is run. None of it looks at
what the agent assumes, and its parts were fixed before the agent was tuned:

* a lever does something only where the recipe says that it does;
* each numeric lever has an optimum drawn uniformly over its domain and a loss of |distance|^q, q = 1, 1.5 or 2;
  each other choice has a normal effect an option. Strengths are log-normal (sigma 1.2): few levers matter;
* one pair of levers for every two levers interacts: the optimum of one moves with the other;
* a quarter of the numeric levers cost bytes, a quarter cost training time, and there the optimum is drawn from the
  upper half, as in a recipe where larger is better until it no longer fits. Above the cap the trial fails, unscored;
* how many bytes a trial took is told, and how many seconds, with a noise of 3 %: not above the budget, where it was
  stopped;
* two levers crash the run beyond a point in their outer fifth;
* all is scaled so that a climb of 4,000 steps that sees no noise gains 0.4 bits per byte (the shipped task leaves
  that much); a run's noise is normal with sd 0.005 (measured over seeds: 0.003 to 0.010).
"""

import argparse
import hashlib
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gitresearch import decision, looks
from gitresearch import study as studies
from gitresearch.agents import Agent, Files, Proposal, ProposalFailed, Request
from gitresearch.agents.offline import OfflineAgent, edits_of
from gitresearch.agents.offline.domain import Choice, Range
from gitresearch.agents.offline.history import Archive, Scene, fingerprint
from gitresearch.agents.offline.levers import Lever, Reader
from gitresearch.agents.offline.literals import Value
from gitresearch.agents.offline.steer import Move, anywhere
from gitresearch.decision import Reference
from gitresearch.lineage import Lineage, Node
from gitresearch.looks import Noise
from gitresearch.outcome import Outcome, Run, Summary, summarise
from gitresearch.policy import next_turn
from gitresearch.propose import TRIES
from gitresearch.study import Study
from gitresearch.surface import Surface as Patterns
from gitresearch.trial import Hypothesis, Trial

ROOT = Path(__file__).resolve().parent.parent
NOISE = 0.005
ROOM = 0.4
START = 2.1


# -----------------------------------------------------------------------------
# the arms


class RandomAgent:
    """The same levers and operators, drawn uniformly."""

    reads_lineage = True

    def __init__(self) -> None:
        self._archive = Archive()

    def propose(self, request: Request) -> Proposal:
        scene = self._archive.scene(request)
        rng = random.Random(request.seed)
        for _ in range(200):
            edits = edits_of(scene, request, Move(self._draw(scene, request, rng)))
            if edits and fingerprint({**request.files, **edits}) not in scene.known:
                hypothesis = Hypothesis.from_text(
                    "try another setting", study=request.study.name, specialist=request.specialist.name
                )
                return Proposal(hypothesis, edits)
        raise ProposalFailed("nothing new in 200 draws")

    def _draw(self, scene: Scene, request: Request, rng: random.Random) -> dict[str, Value]:
        keys: Sequence[str] = scene.own
        if request.operator == "repair" and (before := scene.points.get(scene.points[request.parent.oid].parent)):
            changed = [key for key in scene.own if before.values.get(key) != scene.here[key]]
            keys = changed or keys
        else:
            keys = rng.sample(scene.own, min(len(scene.own), rng.choices((1, 2, 3), (5, 3, 2))[0]))
        drawn = {key: anywhere(scene.levers[key], rng) for key in keys}
        return {key: value for key, value in drawn.items() if value != scene.here[key]}


ARMS: dict[str, Callable[[], Agent]] = {"offline": OfflineAgent, "random": RandomAgent}


# -----------------------------------------------------------------------------
# the problem: a response surface over real levers


@dataclass
class Term:
    """One lever's part of the loss, as a function of its place in [0, 1] or of its option."""

    lever: Lever
    strength: float
    best: float
    power: float
    options: Mapping[Value, float]

    def place(self, value: Value) -> float:
        domain = self.lever.domain
        if isinstance(domain, Range):
            return min(1.0, max(0.0, domain.place(value)))
        return domain.options.index(value) / max(1, len(domain.options) - 1)

    def loss(self, value: Value, shift: float) -> float:
        if self.options:
            return self.options[value] * self.strength
        return float(abs(self.place(value) - self.best - shift) ** self.power * self.strength)


class Surface:
    """A made-up world: loss, bytes and seconds for any setting of the levers (see the top of the file)."""

    def __init__(self, levers: Sequence[Lever], seed: int) -> None:
        self.rng = random.Random(f"surface {seed}")
        self.start = {lever.key: lever.value for lever in levers}
        self.terms = {lever.key: self._term(lever) for lever in levers}
        numeric = [key for key, term in self.terms.items() if not term.options]
        self.bytes = self._costly(numeric)
        self.seconds = self._costly(numeric)
        self.cliffs = {key: self.rng.uniform(0.8, 1.0) for key in self.rng.sample(numeric, 2)}
        pairs = [self.rng.sample(numeric, 2) for _ in range(len(levers) // 2)]
        self.pairs = [(a, b, self.rng.gauss(0, 0.4)) for a, b in pairs]
        self.unit = 1.0
        self._calibrate()

    def _term(self, lever: Lever) -> Term:
        rng, domain = self.rng, lever.domain
        numeric = isinstance(domain, Range) or ordered(domain)
        options = {} if numeric else {option: rng.gauss(0, 0.4) for option in domain.options}
        return Term(lever, rng.lognormvariate(0, 1.2), rng.random(), rng.choice((1.0, 1.5, 2.0)), options)

    def _costly(self, numeric: Sequence[str]) -> dict[str, float]:
        chosen = self.rng.sample(list(numeric), max(1, len(numeric) // 4))
        for key in chosen:
            self.terms[key].best = self.rng.uniform(0.5, 1.0)
        return {key: self.rng.uniform(0.3, 1.5) for key in chosen}

    def _calibrate(self) -> None:
        """Scale the losses so that a long climb that sees no noise gains ROOM."""
        here, least = dict(self.start), self.raw(self.start)
        for _ in range(4000):
            keys = self.rng.sample(list(self.start), self.rng.choice((1, 1, 2, 3)))
            there = {**here, **{key: anywhere(self.terms[key].lever, self.rng) for key in keys}}
            if not self.failure(there) and (loss := self.raw(there)) < least:
                here, least = there, loss
        self.unit = ROOM / (self.raw(self.start) - least)

    def raw(self, values: Mapping[str, Value]) -> float:
        shifts: dict[str, float] = {}
        for a, b, strength in self.pairs:
            term = self.terms[b]
            shifts[a] = shifts.get(a, 0.0) + strength * (term.place(values[b]) - term.place(self.start[b]))
        working = ((key, term) for key, term in self.terms.items() if term.lever.works(values))
        return sum(term.loss(values[key], shifts.get(key, 0.0)) for key, term in working)

    def loss(self, values: Mapping[str, Value]) -> float:
        return START + self.unit * (self.raw(values) - self.raw(self.start))

    def shares(self, values: Mapping[str, Value]) -> tuple[float, float]:
        """How much of the bytes and of the seconds a setting takes, the start 0.6 and 0.5 of them."""
        size, seconds = (
            sum(c * (self.terms[k].place(values[k]) - self.terms[k].place(self.start[k])) for k, c in costs.items())
            for costs in (self.bytes, self.seconds)
        )
        return 0.6 + size, 0.5 + seconds

    def failure(self, values: Mapping[str, Value]) -> str:
        """The status of a setting that has no score; empty where it has one."""
        if any(
            self.terms[key].place(values[key]) > edge
            for key, edge in self.cliffs.items()
            if values[key] != self.start[key]
        ):
            return "crash"
        size, seconds = self.shares(values)
        return "size_blocked" if size > 1 else "train_budget_overrun" if seconds > 1 else ""


def ordered(domain: Choice | Range) -> bool:
    return isinstance(domain, Choice) and all(type(option) in (int, float) for option in domain.options)


# -----------------------------------------------------------------------------
# one search


@dataclass
class Search:
    """One arm's search of one problem; `curve` is the head's true loss after each trial."""

    study: Study
    agent: Agent
    evaluate: Callable[[Files, int, str], Run]
    base: Files
    true: Callable[[Mapping[str, bytes]], float]
    curve: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    trees: dict[str, Files] = field(default_factory=dict)
    noise: Noise = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def run(self, trials: int, seed: int) -> "Search":
        lineage = Lineage(self.study.objective)
        runs = [self.evaluate(self.base, seed * 1000 + i, "baseline") for i in range(self.study.seeds.baseline)]
        hypothesis = Hypothesis("the recipe as it is", self.study.name, "baseline", "baseline")
        start = self._commit(hypothesis, (), self.base, 0)
        summary = summarise("baseline", self.study.objective.metric, runs, "")
        self.outcomes[start.oid] = Outcome(summary, tuple(runs))
        self.noise = looks.known_noise(self.study, self.outcomes[start.oid])
        lineage.put(Node(start, summary))
        tired: set[str] = set()
        while len(lineage) <= trials:
            number = len(lineage)
            turn = next_turn(self.study, lineage, {}, tired, seed)
            if turn is None:
                break
            trial = self._propose(lineage, turn, number)
            if trial is None:
                tired.add(turn.specialist.name)
                continue
            tired.clear()
            lineage.put(Node(trial, self._assess(lineage, trial, seed * 1000 + 10 * number)))
            status = lineage[trial.oid].status
            self.statuses[status] = self.statuses.get(status, 0) + 1
            head = lineage.head
            assert head is not None
            self.curve.append(self.true(self.trees[head.trial.oid]))
        return self

    def _propose(self, lineage: Lineage, turn: Any, number: int) -> Trial | None:
        files = self.trees[turn.parent.oid]
        for attempt in range(TRIES):
            request = Request(
                self.study, turn.specialist, turn.operator, turn.parent, files, "", lineage, self.trees.__getitem__,
                turn.seed + attempt, outcome_of=self.outcomes.get,
            )  # fmt: skip
            begin = time.perf_counter()
            try:
                proposal = self.agent.propose(request)
            except ProposalFailed:
                return None
            finally:
                self.seconds += time.perf_counter() - begin
            after = {**files, **{path: data for path, data in proposal.edits.items() if data is not None}}
            assert not request.surface.violations(files, proposal.edits)
            trial = self._commit(
                replace(proposal.hypothesis, operator=turn.operator), (turn.parent.oid,), after, number
            )
            if lineage.same_tree(trial.tree) is None:
                return trial
        return None

    def _commit(self, hypothesis: Hypothesis, parents: tuple[str, ...], files: Files, number: int) -> Trial:
        tree = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        oid = hashlib.sha1(f"{number} {tree} {parents}".encode()).hexdigest()
        self.trees[oid] = files
        return Trial(oid, tree, parents, number, hypothesis)

    def _assess(self, lineage: Lineage, trial: Trial, seed: int) -> Summary:
        metric, files, head = self.study.objective.metric, self.trees[trial.oid], lineage.head
        assert head is not None
        assert head.summary is not None
        assert head.score is not None
        reference = Reference("head", head.score, head.summary.n, self.noise)
        done: list[Run] = []
        for purpose in decision.purposes(self.study, trial.operator, done, reference):
            done.append(self.evaluate(files, seed + len(done), purpose))
            if done[-1].status != "ok":
                break
        status = done[-1].status if done[-1].status != "ok" else decision.verdict(self.study, done, reference).status
        summary = summarise(status, metric, done, "")
        self.outcomes[trial.oid] = Outcome(summary, tuple(done))
        return summary


# -----------------------------------------------------------------------------
# the two forms


def recipe() -> tuple[Study, dict[str, bytes]]:
    """The shipped study and its files, by path from the top; without its gate (bytes are the surface's own) and without
    its hints, which say nothing of a made-up surface."""
    study = replace(studies.load((ROOT / "recipes/parameter_golf/study.toml").read_text("utf-8")), gates=())
    study = replace(study, specialists=tuple(replace(who, hints={}) for who in study.specialists))
    folder = ROOT / study.recipe.root
    return study, {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in sorted(folder.glob("*.py"))}


def world(study: Study, files: Files, seed: int) -> tuple[Callable[[Files, int, str], Run], Callable[[Files], float]]:
    """Evaluate and re-score on one made-up surface."""
    everywhere = studies_surface(study)
    levers = Archive().find(files, everywhere, everywhere)
    surface = Surface(levers, seed)
    readers = {path: Reader(files[path], [v for v in levers if v.path == path]) for path in {v.path for v in levers}}
    budget, metric = study.budget, study.objective.metric

    def values(tree: Files) -> dict[str, Value]:
        return {key: value for path, reader in readers.items() for key, value in reader.values(tree[path]).items()}

    def evaluate(tree: Files, noise_seed: int, purpose: str) -> Run:
        setting, rng = values(tree), random.Random(f"noise {seed} {noise_seed}")
        score, (size, seconds) = surface.loss(setting) + rng.gauss(0, NOISE), surface.shares(setting)
        status = surface.failure(setting) or "ok"
        spent = min(1.0, max(0.1, seconds * rng.gauss(1, 0.03))) * budget.train_seconds
        weight = 0 if status == "crash" else round(max(0.05, size) * budget.artefact_bytes)
        metrics = {metric: score} if status == "ok" else {}
        return Run(noise_seed, purpose, status, metrics, train_seconds=spent, artefact_bytes=weight)

    return evaluate, lambda tree: surface.loss(values(tree))


def studies_surface(study: Study) -> Any:
    return Patterns.of(pattern for specialist in study.specialists for pattern in specialist.surface)


def surrogate(trials: int, repetitions: int, arms: Sequence[str], first: int) -> dict[str, list[Search]]:
    study, files = recipe()
    found: dict[str, list[Search]] = {arm: [] for arm in arms}
    for repetition in range(first, first + repetitions):
        evaluate, true = world(study, files, repetition)
        for arm in arms:
            found[arm].append(Search(study, ARMS[arm](), evaluate, files, true).run(trials, repetition))
    return found


def report(found: Mapping[str, list[Search]], start: Callable[[int], float]) -> Iterator[str]:
    """The table."""
    gains = {arm: [start(i) - s.curve[-1] for i, s in enumerate(searches)] for arm, searches in found.items()}
    heads = ("gain", "sd", "se", "at 1/4", "at 1/2")
    yield f"{'arm':10}{heads[0]:>9}{heads[1]:>8}{heads[2]:>8}{heads[3]:>9}{heads[4]:>9}" + (
        f"{'keeps':>7}{'failed':>8}{'ms/proposal':>13}"
    )
    for arm, searches in found.items():
        n = len(searches[0].curve)
        at = [statistics.mean(start(i) - s.curve[n // part - 1] for i, s in enumerate(searches)) for part in (4, 2)]
        keeps = statistics.mean(s.statuses.get("keep", 0) for s in searches)
        failed = statistics.mean(
            sum(s.statuses.values()) - s.statuses.get("keep", 0) - s.statuses.get("discard", 0) for s in searches
        )
        sd = statistics.stdev(gains[arm]) if len(gains[arm]) > 1 else 0.0
        ms = 1000 * statistics.mean(s.seconds / max(1, len(s.curve)) for s in searches)
        yield (
            f"{arm:10}{statistics.mean(gains[arm]):9.4f}{sd:8.4f}{sd / len(searches) ** 0.5:8.4f}"
            f"{at[0]:9.4f}{at[1]:9.4f}"
            f"{keeps:7.1f}{failed:8.1f}{ms:13.0f}"
        )
    if "offline" in found and "random" in found:
        yield from _versus(found, gains)


def _versus(found: Mapping[str, list[Search]], gains: Mapping[str, list[float]]) -> Iterator[str]:
    ratio = statistics.mean(gains["offline"]) / statistics.mean(gains["random"])
    wins = sum(a > b for a, b in zip(gains["offline"], gains["random"], strict=True))
    yield f"gain of offline over random: ×{ratio:.2f}; better in {wins} of {len(gains['random'])} repetitions"
    for a, b in (("offline", "random"), ("random", "offline")):
        took = [
            next((n for n, loss in enumerate(x.curve, 1) if loss <= y.curve[-1]), None)
            for x, y in zip(found[a], found[b], strict=True)
        ]
        reached = [n for n in took if n is not None]
        told = f", in {statistics.median(reached):g} trials (median)" if reached else ""
        yield f"{a} reached {b}'s final score in {len(reached)} of {len(took)} repetitions{told}"


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first repetition's seed")
    parser.add_argument("--arms", default="offline,random")
    options = parser.parse_args(argv)
    begin = time.perf_counter()
    found = surrogate(options.trials, options.repetitions, options.arms.split(","), options.first)
    print(f"surrogate, {options.repetitions} repetitions × {options.trials} trials, noise sd {NOISE}, room {ROOM} bpb")
    print("\n".join(report(found, lambda _: START)))
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
