"""The offline agent where the score is bought with a gate, on a made-up surface over airbench's real levers.

    python benchmarks/trade.py                          # 20 searches of 40 trials, some two minutes
    python benchmarks/trade.py --first 400 --set JOINED=0 --set WITHIN=2    # another constant of steer.py

A search is the loop's own decisions: `next_turn`, screening, fresh seeds, gates, claims every few keeps and at the end,
rollback. Printed is what the last confirmed trial truly takes, as a share of the start, on average over the problems.

How the surface is made, for each problem from its own seed, by rules that were fixed before the agent was tuned on it:

* what a setting gets right is a surface as in search.py, scaled so that a climb of 3,000 steps that sees no noise gets
  120 more images right; the epochs cost 240 images times what 1/epochs grows by. The start has 111 to spare, a run's
  noise is normal with sd 49 (both as measured of airbench's start). People chose the start, so half of the levers also
  cost images for leaving it: log-normal (mean of the log 4, sigma 1) times the distance, which is 1 for a choice;
* seconds are a fifth fixed, and the rest goes with the epochs and with a factor for each lever that costs time: one in
  five does, a numeric one by exp(c · distance), c log-normal (mean of its log −1.6, sigma 0.7), another by a normal
  factor an option (sd 0.06). A run's noise is 1 %.
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from search import ROOT, Search, Surface, studies_surface

from gitresearch import decision
from gitresearch import study as studies
from gitresearch.agents import Files
from gitresearch.agents.offline import OfflineAgent, steer
from gitresearch.agents.offline.history import Archive
from gitresearch.agents.offline.levers import Lever, Reader
from gitresearch.agents.offline.literals import Value
from gitresearch.agents.offline.steer import anywhere
from gitresearch.lineage import Lineage, Node
from gitresearch.outcome import Run, Summary, summarise
from gitresearch.study import Study
from gitresearch.trial import Trial

GATE, SLACK, NOISE, ROOM, EPOCHS_COST = 8800, 111.0, 49.0, 120.0, 240.0


class Trade(Surface):
    """Images named right and seconds, for any setting of the levers."""

    def __init__(self, levers: Sequence[Lever], seed: int) -> None:
        self.epochs = next(lever for lever in levers if lever.name == "EPOCHS")
        super().__init__([lever for lever in levers if lever is not self.epochs], seed)
        self.slower = {key: self._slower(lever) for key, lever in self.levers() if self.rng.random() < 0.2}
        self.worse = {key: self.rng.lognormvariate(4, 1) for key in self.terms if self.rng.random() < 0.5}

    def levers(self) -> list[tuple[str, Lever]]:
        return [(key, term.lever) for key, term in self.terms.items()]

    def _slower(self, lever: Lever) -> float | dict[Value, float]:
        options = self.terms[lever.key].options
        return {one: self.rng.gauss(0, 0.06) for one in options} if options else self.rng.lognormvariate(-1.6, 0.7)

    def _calibrate(self) -> None:
        here, least = dict(self.start), self.raw(self.start)
        for _ in range(3000):
            keys = self.rng.sample(list(self.start), self.rng.choice((1, 1, 2, 3)))
            there = {**here, **{key: anywhere(self.terms[key].lever, self.rng) for key in keys}}
            if (loss := self.raw(there)) < least:
                here, least = there, loss
        self.unit = ROOM / (self.raw(self.start) - least)

    def right(self, values: Mapping[str, Value]) -> float:
        """Images of 10,000."""
        spent = EPOCHS_COST * (1 / self._epochs(values) - 1 / self._epochs({}))
        away = sum(cost * self._distance(key, values) for key, cost in self.worse.items())
        return GATE + SLACK - self.unit * (self.raw(values) - self.raw(self.start)) - spent - away

    def took(self, values: Mapping[str, Value]) -> float:
        """Seconds, as a share of the start's."""
        return 0.2 + 0.8 * self._epochs(values) / self._epochs({}) * math.exp(
            sum(self._factor(key, how, values) for key, how in self.slower.items())
        )

    def _factor(self, key: str, how: float | dict[Value, float], values: Mapping[str, Value]) -> float:
        term = self.terms[key]
        if not term.lever.works(values):
            return 0.0
        if isinstance(how, dict):
            return how[values[key]] - how[self.start[key]]
        return how * (term.place(values[key]) - term.place(self.start[key]))

    def _distance(self, key: str, values: Mapping[str, Value]) -> float:
        """How far a lever that does something lies from where people put it; of a choice 1."""
        term = self.terms[key]
        if not term.lever.works(values) or values[key] == self.start[key]:
            return 0.0
        return 1.0 if term.options else abs(term.place(values[key]) - term.place(self.start[key]))

    def _epochs(self, values: Mapping[str, Value]) -> float:
        value = values.get(self.epochs.key, self.epochs.value)
        assert isinstance(value, float)
        return value


@dataclass
class Claiming(Search):
    """A search that claims, too: `curve` is what the last confirmed trial takes."""

    claims: int = 0
    rolled: int = 0

    def run(self, trials: int, seed: int) -> "Claiming":
        self.seed, self.since, self.bare = seed, 0, 0
        self.claimed: set[str] = set()
        super().run(trials, seed)
        while self._claim():
            pass
        self.curve.append(self.true(self.trees[self._best.trial.oid]))
        return self

    @property
    def _best(self) -> Node:
        assert self.lineage.best is not None
        return self.lineage.best

    def _assess(self, lineage: Lineage, trial: Trial, seed: int) -> Summary:
        self.lineage = lineage
        if self.since >= self.study.decision.every or 0 < self.study.decision.stall <= self.bare:
            self._claim()
        summary = super()._assess(lineage, trial, seed)
        self.outcomes[trial.oid] = replace(self.outcomes[trial.oid], binding={"commit": trial.oid})
        kept = summary.status == "keep"
        self.since, self.bare = self.since + kept, 0 if kept else self.bare + 1
        return summary

    def _claim(self) -> bool:
        """The head runs on fresh seeds, and is confirmed, left or rolled back."""
        head = self.lineage.head
        if head is None or head.status != "keep" or head.trial.oid in self.claimed:
            return False
        oid, rival = head.trial.oid, self._best.trial.oid
        self.claimed.add(oid)
        self.claims, self.since, self.bare = self.claims + 1, 0, 0
        others = [one for name, one in self.outcomes.items() if name not in (oid, rival)]
        found = self.outcomes[oid]
        for number in range(self.study.seeds.confirm):
            run = self.evaluate(self.trees[oid], -(1000 * self.seed + 10 * self.claims + number), "confirm")
            found = replace(found, runs=(*found.runs, run))
            if decision.claim_due(self.study, found, self.outcomes[rival], others):
                break
        made = decision.claim(self.study, found, self.outcomes[rival], others, self.claims, self.noise)
        words = {"confirmed": made.confirmed, "reason": made.reason, "label": made.label, "claimed": True}
        summary = summarise(made.status, self.study.objective.metric, found.runs, "", **words)
        self.outcomes[oid] = replace(found, summary=summary)
        self.lineage.put(Node(head.trial, summary))
        self.rolled += made.status != "keep"
        return True


def world(study: Study, files: Files, seed: int) -> tuple[Callable[[Files, int, str], Run], Callable[[Files], float]]:
    """Evaluate on one made-up surface, and what a tree truly takes."""
    everywhere = studies_surface(study)
    levers = Archive().find(files, everywhere, everywhere)
    surface = Trade(levers, seed)
    readers = {path: Reader(files[path], [v for v in levers if v.path == path]) for path in {v.path for v in levers}}

    def values(tree: Files) -> dict[str, Value]:
        return {key: value for path, reader in readers.items() for key, value in reader.values(tree[path]).items()}

    def evaluate(tree: Files, noise_seed: int, purpose: str) -> Run:
        setting, rng = values(tree), random.Random(f"noise {seed} {noise_seed}")
        right, seconds = surface.right(setting) + rng.gauss(0, NOISE), surface.took(setting) * rng.gauss(1, 0.01)
        return Run(noise_seed, purpose, "ok", {study.objective.metric: seconds, study.gates[0].metric: right})

    return evaluate, lambda tree: surface.took(values(tree))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first problem")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help="a constant of steer.py")
    options = parser.parse_args()
    for name, number in (one.split("=") for one in options.set):
        setattr(steer, name, type(getattr(steer, name))(number))
    study = studies.load((ROOT / "recipes/airbench/study.toml").read_text("utf-8"))
    folder = ROOT / study.recipe.root
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in sorted(folder.glob("*.py"))}
    begin, found = time.perf_counter(), []
    for number in range(options.first, options.first + options.repetitions):
        evaluate, true = world(study, files, number)
        found.append(Claiming(study, OfflineAgent(), evaluate, files, true).run(options.trials, number))
    ends = [search.curve[-1] for search in found]
    error = statistics.stdev(ends) / math.sqrt(len(ends)) if len(ends) > 1 else math.inf
    names = ("keep", "discard", "disqualified")
    told = [f"{name} {statistics.mean(one.statuses.get(name, 0) for one in found):.1f}" for name in names]
    told += [f"{name} {statistics.mean(getattr(one, name) for one in found):.1f}" for name in ("claims", "rolled")]
    what = " ".join(options.set) or "as it ships"
    print(f"{what}: time {statistics.mean(ends):.3f} ± {error:.3f} of the start's;", end=" ")
    print(f"{', '.join(told)} back ({time.perf_counter() - begin:.0f} s)")


if __name__ == "__main__":
    main()
