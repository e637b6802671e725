"""What the decision rule lets through and what it costs, by simulation of whole studies in noise of known size.

    python benchmarks/decisions.py                    # the table, 200 studies a cell
    python benchmarks/decisions.py --studies 1000 --seed 7

Every decision is made by `gitresearch.decision` itself: which run is next, the verdict, when a claim is decided, the
claim. Simulated are the trials alone. One run is the truth plus normal noise of σ = 1, on the objective (lower is
better) and on a gate's metric (a study with a gate asks for at least 0). A trial starts from the head and moves its
truth by what is drawn from one of these, fixed before the rule was tuned:

* null: nothing ever helps or harms;
* mixed: half do nothing, 3 in 10 harm (exponential, mean 1 σ), 2 in 10 help (exponential, mean 0.5 σ);
* weak: 9 in 10 do nothing, 1 in 10 helps by 0.3 σ;
* gate: as mixed, and what helps costs a quarter to all of it in the gate's metric, which begins 3 σ inside.

The last column is null on a machine that drifts: each run leaves it slower or quicker for all later ones (normal,
0.1 σ: 1.7 σ over a study). `interleaved` is `decision.interleave`.

A study proposes until it made 300 runs, calibration and claims included, then makes the claims that are due at the end;
head, best and what is due are found as the loop finds them. Gains are in σ: claimed is how far the best is said to be
from the baseline, true is how far it is. `greedy` is the working head of the same rule if nothing were ever claimed or
rolled back: what there is to find. A wrong promotion is a best that is truly no better than the best before it, or
truly outside the gate.
"""

import argparse
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean

from gitresearch import decision
from gitresearch.decision import Reference
from gitresearch.looks import known_noise
from gitresearch.outcome import RIVAL, Outcome, Run, mean, summarise
from gitresearch.study import Gate, Study, load

RUNS, INSIDE, DRIFT = 300, 3.0, 0.1
STUDY = load("""
name = "simulated"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[evaluator]
hook = "hook.py"
[[specialists]]
name = "one"
surface = ["train.py"]
""")


@dataclass(frozen=True)
class Truth:
    """What a trial truly is: its loss, and its gate's metric."""

    loss: float = 0.0
    inside: float = INSIDE


Step = Callable[[random.Random], tuple[float, float]]  # gain, and what it costs at the gate


def null(_rng: random.Random) -> tuple[float, float]:
    return 0.0, 0.0


def mixed(rng: random.Random) -> tuple[float, float]:
    kind = rng.random()
    gain = 0.0 if kind < 0.5 else -rng.expovariate(1.0) if kind < 0.8 else rng.expovariate(2.0)
    return gain, 0.0


def weak(rng: random.Random) -> tuple[float, float]:
    return (0.3 if rng.random() < 0.1 else 0.0), 0.0


def gate(rng: random.Random) -> tuple[float, float]:
    gain, _ = mixed(rng)
    return gain, max(0.0, gain) * rng.uniform(0.25, 1.0)


@dataclass
class Simulated:
    """One study as it goes on; trials are numbers, the baseline is 0."""

    study: Study
    rng: random.Random
    claims: bool = True
    budget: int = RUNS
    drift: float = 0.0  # by how much a run leaves the machine changed
    level: float = 0.0  # of the machine now
    truths: dict[int, Truth] = field(default_factory=lambda: {0: Truth()})
    kept: dict[int, Outcome] = field(default_factory=dict)  # as they stand, the baseline among them
    runs: int = 0
    trials: int = 0
    made: int = 0  # claims
    since: int = 0  # keeps since the last claim
    idle: int = 0  # trials since the last keep or claim
    promotions: int = 0
    wrong: int = 0
    search: int = 0  # runs of trials, without calibration and claims

    def run(self, trial: int, purpose: str) -> Run:
        self.runs += 1
        truth = self.truths[trial]
        self.level += self.rng.gauss(0.0, self.drift) if self.drift else 0.0
        found = {"loss": self.rng.gauss(truth.loss, 1.0) + self.level, "inside": self.rng.gauss(truth.inside, 1.0)}
        return Run(self.runs, purpose, "ok", found, of=str(trial) if purpose == RIVAL else "")

    def outcome(
        self, trial: int, status: str, runs: tuple[Run, ...], facts: Mapping[str, object], *, sure: bool
    ) -> Outcome:
        head = summarise(status, "loss", runs, "", confirmed=sure, claimed="claim" in facts)
        return Outcome(head, runs, decision=facts, binding={"commit": str(trial)})

    def leader(self, *, confirmed: bool) -> int:
        """The best-scored keep, or the best-scored confirmed one; the baseline where there is none."""
        found = {
            trial: one.summary.score or 0.0
            for trial, one in self.kept.items()
            if trial and (one.summary.confirmed or not confirmed)
        }
        return min(found, key=found.__getitem__, default=0)

    def go(self, step: Step) -> "Simulated":
        seeds = tuple(self.run(0, "baseline") for _ in range(self.study.seeds.baseline))
        self.kept[0] = self.outcome(0, "baseline", seeds, {}, sure=False)
        while self.runs < self.budget:
            self.trial(step)
            rule = self.study.decision
            stalled = bool(rule.stall) and self.idle >= rule.stall
            if self.claims and (self.since >= rule.every or stalled):
                self.claim()
        while self.claims and self.claim():
            pass
        return self

    def trial(self, step: Step) -> None:
        head = self.leader(confirmed=False)
        gain, cost = step(self.rng)
        self.trials += 1
        number, before = self.trials, self.truths[head]
        self.truths[number] = Truth(before.loss - gain, before.inside - cost)
        reference = Reference("head", self.kept[head].summary.score or 0.0, 1, known_noise(self.study, self.kept[0]))
        done: list[Run] = []
        for purpose in decision.purposes(self.study, "improve", done, reference):
            done.append(self.run(number, purpose))
        self.search += len(done)
        self.idle += 1
        found = decision.verdict(self.study, done, reference)
        if found.status == "keep":
            best = self.leader(confirmed=True)
            self.kept[number] = self.outcome(number, "keep", tuple(done), found.arithmetic, sure=found.confirmed)
            self.since, self.idle = self.since + 1, 0
            if found.confirmed:
                self.promoted(number, best)

    def claim(self) -> bool:
        """The head's claim; whether there was one to make."""
        head, best = self.leader(confirmed=False), self.leader(confirmed=True)
        if not head or self.study.decision.rule != "two-tier" or "claim" in self.kept[head].decision:
            return False
        mine, rival = self.kept.pop(head), self.kept[best]
        others = [one for trial, one in self.kept.items() if trial != best]
        while True:
            against = [self.run(best, RIVAL)] if self.study.decision.interleave else []
            runs = (*mine.runs, *against, self.run(head, "confirm"))
            mine = replace(mine, runs=runs, summary=summarise("keep", "loss", runs, ""))
            if decision.claim_due(self.study, mine, rival, others):
                break
        self.made, self.since, self.idle = self.made + 1, 0, 0
        found = decision.claim(self.study, mine, rival, others, self.made, known_noise(self.study, self.kept[0]))
        if found.status == "keep":
            facts = {**mine.decision, **found.arithmetic}
            self.kept[head] = self.outcome(head, "keep", mine.runs, facts, sure=found.confirmed)
            if found.confirmed:
                self.promoted(head, best)
        return True

    def promoted(self, trial: int, before: int) -> None:
        self.promotions += 1
        outside = bool(self.study.gates) and self.truths[trial].inside < 0
        self.wrong += outside or self.truths[trial].loss >= self.truths[before].loss

    @property
    def true(self) -> float:
        """What is found: by the best, or by the head where nothing is ever claimed."""
        return -self.truths[self.leader(confirmed=self.claims)].loss

    @property
    def claimed(self) -> float:
        scores = [self.kept[trial].summary.score or 0.0 for trial in (0, self.leader(confirmed=self.claims))]
        return scores[0] - scores[1]


def rule(
    name: str = "two-tier", *, stop: float = 0.05, gated: bool = False, interleave: bool = False, **seeds: int
) -> Study:
    """The study with another rule, other seeds, or a gate."""
    return replace(
        STUDY,
        decision=replace(STUDY.decision, rule=name, stop_alpha=stop, interleave=interleave),
        seeds=replace(STUDY.seeds, **seeds),
        gates=(Gate("inside", at_least=0.0),) if gated else (),
    )


def simulated(
    study: Study, step: Step, count: int, seed: int, *, claims: bool = True, budget: int = RUNS, drift: float = 0.0
) -> list[Simulated]:
    draws = (random.Random(f"{seed} {number}") for number in range(count))
    return [Simulated(study, draw, claims, budget, drift).go(step) for draw in draws]


RULES: dict[str, Callable[[bool], tuple[Study, bool]]] = {
    "greedy (claims nothing)": lambda gated: (rule(gated=gated), False),
    "strict-improvement": lambda gated: (rule("strict-improvement", gated=gated), True),
    "two-tier, all seeds": lambda gated: (rule(stop=0.0, gated=gated), True),
    "two-tier": lambda gated: (rule(gated=gated), True),
    "two-tier, interleaved": lambda gated: (rule(interleave=True, gated=gated), True),
    "two-tier 3+5, all seeds": lambda gated: (rule(stop=0.0, gated=gated, screen=3, head=5), True),
    "two-tier 3+5": lambda gated: (rule(gated=gated, screen=3, head=5), True),
}


def cells(name: str, count: int, seed: int) -> list[str]:
    """One row of the table."""
    (study, claims), (gated, _) = RULES[name](False), RULES[name](True)
    nothing, much, little = (simulated(study, step, count, seed, claims=claims) for step in (null, mixed, weak))
    close = simulated(gated, gate, count, seed, claims=claims)
    adrift = simulated(study, null, count, seed, claims=claims, drift=DRIFT)
    return [
        name,
        f"{mean([one.claimed for one in nothing]):.2f}",
        f"{mean([one.promotions > 0 for one in nothing]):.1%}" if claims else "",
        *figures(much),
        *figures(little)[:2],
        f"{mean([one.true for one in close]):.2f}",
        f"{mean([one.truths[one.leader(confirmed=claims)].inside < 0 for one in close]):.1%}",
        f"{sum(one.search for one in much) / sum(one.trials for one in much):.2f}",
        f"{fmean(one.trials for one in much):.0f}",
        f"{mean([one.promotions > 0 for one in adrift]):.1%}" if claims else "",
    ]


def figures(found: list[Simulated]) -> list[str]:
    promotions = sum(one.promotions for one in found)
    share = f"{sum(one.wrong for one in found) / promotions:.1%}" if promotions else ""
    return [f"{mean([one.true for one in found]):.2f}", f"{mean([one.claimed for one in found]):.2f}", share]


HEAD = ["rule", "null: claimed σ", "studies with a claim", "mixed: true σ", "claimed σ", "wrong promotions",
        "weak: true σ", "claimed σ", "gate: true σ", "truly outside", "seeds a trial", "trials",
        "null adrift: with a claim"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--studies", type=int, default=200, help="studies a cell")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    print(f"{asked.studies} studies of {RUNS} runs a cell, noise σ = 1\n")
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    for name in RULES:
        print("| " + " | ".join(cells(name, asked.studies, asked.seed)) + " |", flush=True)


if __name__ == "__main__":
    main()
