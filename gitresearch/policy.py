"""Whose turn it is, with which operator, from which trial. Pure: the same study, lineage and seed give the same turn.

Asked on every turn, so it looks at bounded numbers of trials through the lineage's indexes and costs the same at 100
trials and at 100,000. What it drew from, with the weights, is the turn's `why`, which the proposal's note keeps.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gitresearch.lineage import BLOCKED, Lineage, Node
from gitresearch.study import Specialist, Study
from gitresearch.trial import Trial

# A specialist's weight is 1 + these times the share of its latest trials: gains draw more, and nobody goes silent.
KEEPS, NEAR_MISSES = 4.0, 2.0
# Among the operators that are possible. Replicate is never drawn: fresh seeds are the decision's affair.
OPERATORS = {"improve": 5.0, "repair": 1.0, "combine": 1.5, "ablate": 0.5}
ELSEWHERE = 0.2  # share of the improvements that start from another trial than the head
REPAIRABLE = BLOCKED | {"crash"}  # failures that an edit can mend
LATEST, FEW, STEPS, MANY = 40, 5, 50, 200  # how many trials a question looks at


class Start(NamedTuple):
    """Where a turn may start: the parent, and the second parent of a combination or the step that an ablation takes
    out."""

    parent: Node
    other: Node | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.parent.trial.oid, self.other.trial.oid if self.other else ""


@dataclass(frozen=True)
class Turn:
    """Whose turn it is, with which operator, from which trial. `other` is the second parent of a combination, or the
    step that an ablation takes out; `why` is what the turn was drawn from."""

    specialist: Specialist
    operator: str
    parent: Trial
    seed: int
    other: Trial | None = None
    why: str = ""

    @property
    def once(self) -> tuple[str, str] | None:
        """What a loop must not begin twice: the same repair, combination or ablation. None for any other turn."""
        if self.operator not in ("repair", "combine", "ablate"):
            return None
        return self.parent.oid, self.other.oid if self.other else ""


def next_turn(
    study: Study,
    lineage: Lineage,
    busy: Mapping[str, int],
    tired: set[str],
    seed: int,
    begun: Collection[tuple[str, str]] = (),
) -> Turn | None:
    """Choose specialist, operator and parent. None where nobody is left or there is nothing to start from.

    Every specialist gets a turn before one gets two. `busy` counts turns under way, `tired` names specialists that
    found no edit lately, `begun` holds what must not begin again (`Turn.once`). Without lineage (the control arm)
    every turn starts from the head and no other trial is used.
    """
    head = lineage.head
    rested = [specialist for specialist in study.specialists if specialist.name not in tired]
    if head is None or not rested:
        return None
    rng = random.Random(f"{study.name} {seed} {len(lineage)} {sum(busy.values())}")  # noqa: S311  (no secret)
    specialist, whose = _specialist(rested, lineage, busy, rng)
    possible = {"improve": [Start(head)]}
    if study.agent.lineage:
        possible |= _possible(lineage, head, specialist.name, begun)
    weights = {operator: OPERATORS[operator] for operator in possible}
    operator = rng.choices(list(weights), list(weights.values()))[0]
    start = _drawn(possible[operator], rng)
    if operator == "improve" and study.agent.lineage and rng.random() < ELSEWHERE:
        start = Start(_elsewhere(lineage, rng))
    why = f"{whose}; {operator} of {_told(weights)}; from {_place(lineage, start, head)}"
    if operator == "improve" and start.parent.status == "baseline":
        operator = "draft"
    other = start.other.trial if start.other else None
    return Turn(specialist, operator, start.parent.trial, rng.getrandbits(31), other, why)


def _specialist(
    rested: Sequence[Specialist], lineage: Lineage, busy: Mapping[str, int], rng: random.Random
) -> tuple[Specialist, str]:
    """Whose turn it is, and why: whoever had none, else drawn by what their latest trials came to."""
    weights = {}
    for specialist in rested:
        name = specialist.name
        recent = lineage.recent(LATEST, name)
        turns = len(recent) + busy.get(name, 0)
        if not turns:
            return specialist, f"{name} had no turn yet"
        kept = sum(node.status == "keep" for node in recent)
        near = sum(lineage.close(node) for node in recent)
        weights[name] = 1 + (KEEPS * kept + NEAR_MISSES * near) / turns
    drawn = rng.choices(rested, list(weights.values()))[0]
    return drawn, f"{drawn.name} of {_told(weights)}"


def _possible(lineage: Lineage, head: Node, name: str, begun: Collection[tuple[str, str]]) -> dict[str, list[Start]]:
    """What a specialist could do beside improving, likeliest first; operators for which there is nothing are absent."""
    found = {
        "repair": [Start(node) for node in repairable(lineage, name)],
        "combine": [Start(head, node) for node in combinable(lineage, head)],
        "ablate": [Start(head, node) for node in ablatable(lineage, head)],
    }
    fresh = {operator: [start for start in starts if start.key not in begun] for operator, starts in found.items()}
    return {operator: starts for operator, starts in fresh.items() if starts}


def repairable(lineage: Lineage, specialist: str) -> list[Node]:
    """The specialist's trials that an edit may mend and nobody went on from: its latest if that failed, then those that
    were blocked or missed a gate, latest first. Not best first: where a score is bought with the gate, the best misses
    it by most. None that missed a gate with a score no better than the head's: mended, it would be worse still."""
    recent = lineage.recent(LATEST, specialist)
    found = [node for number, node in enumerate(recent) if node.status in (BLOCKED if number else REPAIRABLE)]
    return [node for node in found if not lineage.children(node.trial.oid, 1) and _worth_mending(lineage, node)]


def _worth_mending(lineage: Lineage, node: Node) -> bool:
    bar = lineage.head.score if lineage.head else None
    return node.score is None or bar is None or lineage.objective.better(node.score, bar)


def combinable(lineage: Lineage, head: Node) -> list[Node]:
    """The best keeps that the head doesn't stand on, that don't stand on it, and that it was not combined with."""
    under, oid = lineage.ancestors(head.trial.oid, MANY), head.trial.oid
    children = lineage.children(oid, MANY)
    tried = {parent for child in children if child.trial.operator == "combine" for parent in child.trial.parents}
    found = [node for node in lineage.keeps(MANY) if node.trial.oid not in under | tried][:FEW]
    return [node for node in found if oid not in lineage.ancestors(node.trial.oid, MANY)]


def ablatable(lineage: Lineage, head: Node) -> list[Node]:
    """The keeps below the head on its chain that were not taken out of it before, those that gained least first."""
    children = lineage.children(head.trial.oid, MANY)
    tried = {child.trial.subject.partition(":")[0] for child in children if child.trial.operator == "ablate"}
    steps = [node for node in lineage.chain(head.trial.oid, STEPS)[:-1] if node.status == "keep"]
    steps = [node for node in steps if ablation(node.trial) not in tried]
    return sorted(steps, key=lambda node: lineage.depth_gain(node.trial.oid) or 0.0)[:FEW]


def ablation(step: Trial) -> str:
    """How the subject of an ablation begins, by which it is known again."""
    return f"ablate {step.short}"


def _drawn(starts: Sequence[Start], rng: random.Random) -> Start:
    return rng.choices(starts, [1 / place for place in range(1, len(starts) + 1)])[0]


def _elsewhere(lineage: Lineage, rng: random.Random) -> Node:
    """Any trial with a rank, the better the likelier (the n-th about as 1/n); of two a confirmed one."""
    places = [int((lineage.ranked + 1) ** rng.random()) - 1 for _ in range(2)]
    nodes = [lineage.at_rank(min(place, lineage.ranked - 1)) for place in places]
    return next((node for node in nodes if node.summary and node.summary.confirmed), nodes[0])


def _told(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())


def _place(lineage: Lineage, start: Start, head: Node) -> str:
    """Where a turn starts, for people."""
    named = "the head" if start.parent is head else start.parent.trial.short
    score = "" if start.parent.score is None else f" ({start.parent.score:.5g})"
    other = f" and {start.other.trial.short}" if start.other else ""
    return f"{named}{score}{other}, {lineage.ranked} ranked"
