"""Every question to a lineage, against the plain answer computed from all trials anew."""

import math
import random
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitresearch.lineage import RANKED, Lineage, Node
from gitresearch.outcome import FAILED, STATUSES, Summary
from gitresearch.study import Objective
from gitresearch.trial import Hypothesis, Trial

SPECIALISTS = ("baseline", "one", "two")
LOSS, GAIN = Objective("loss", "min"), Objective("accuracy", "max")


def trial(
    number: int, parents: Iterable[int] = (), *, time: int = 0, name: str = "one", tree: int | None = None
) -> Trial:
    """A trial whose id is its number."""
    made = Hypothesis.from_text(f"trial {number}", study="s", specialist=name)
    tree_oid = f"{number if tree is None else tree:039x}f"
    return Trial(oid(number), tree_oid, tuple(oid(parent) for parent in parents), time, made)


def oid(number: int) -> str:
    """The number as an object id."""
    return f"{number:040x}"


def summary(status: str, score: float | None = None, confirmed: bool = False, seconds: float = 0.0) -> Summary:
    """An outcome's head."""
    return Summary(status, "loss", score, 0.0, 1, confirmed, seconds, "2026-01-01T00:00:00Z", "", "")


@st.composite
def summaries(draw: st.DrawFn) -> Summary:
    """Any outcome: failures have no score, the others one of a few, so that there are ties."""
    status = draw(st.sampled_from(STATUSES))
    score = None if status in FAILED else draw(st.sampled_from([-1.0, -0.0, 0.0, 0.5, 0.5, 2.0]))
    return summary(status, score, draw(st.booleans()), draw(st.sampled_from([0.0, 0.1, 2.5])))


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Node], list[Node]]:
    """Trials of a random graph, and what is put: all of them in any order, some again with another outcome."""
    count = draw(st.integers(0, 14))
    trials = []
    for number in range(1, count + 1):
        parents = draw(st.lists(st.integers(0, number - 1), max_size=2, unique=True))  # 0 is no trial
        trials.append(
            trial(
                number,
                parents,
                time=draw(st.integers(0, 4)),
                name=draw(st.sampled_from(SPECIALISTS)),
                tree=draw(st.integers(0, 6)),
            )
        )
    outcomes = st.one_of(st.none(), summaries())
    first = [Node(made, draw(outcomes), draw(st.sampled_from(["", "bad note"]))) for made in trials]
    again = [Node(made, draw(outcomes)) for made in trials if draw(st.booleans())]
    puts = draw(st.permutations(first)) + again
    final = {node.trial.oid: node for node in puts}
    return list(final.values()), puts


def key(node: Node) -> tuple[int, str]:
    return node.trial.time, node.trial.oid


class Plain:
    """The answers, computed from all trials each time."""

    def __init__(self, objective: Objective, nodes: list[Node]) -> None:
        self.objective = objective
        self.all = sorted(nodes, key=key)
        self.by_oid = {node.trial.oid: node for node in nodes}

    def rank(self, node: Node) -> tuple[float, int, str]:
        assert node.score is not None
        return (node.score if self.objective.direction == "min" else -node.score, *key(node))

    def ranked(self, *statuses: str, confirmed: bool = False) -> list[Node]:
        pool = [node for node in self.all if node.status in statuses and node.score is not None]
        return sorted(
            (node for node in pool if not confirmed or (node.summary and node.summary.confirmed)), key=self.rank
        )

    def leader(self, confirmed: bool) -> Node | None:
        found = self.ranked("keep", confirmed=confirmed) or self.ranked("baseline")
        return found[0] if found else None

    def children(self, parent: str) -> list[Node]:
        return [node for node in self.all if parent in node.trial.parents]

    def chain(self, oid: str) -> list[Node]:
        out = []
        at: str | None = oid
        while at is not None:
            out.append(self.by_oid[at])
            at = next((parent for parent in self.by_oid[at].trial.parents if parent in self.by_oid), None)
        return out[::-1]

    def gain(self, node: Node) -> float | None:
        parents = [self.by_oid[parent] for parent in node.trial.parents if parent in self.by_oid]
        if not parents or node.score is None or parents[0].score is None:
            return None
        sign = 1 if self.objective.direction == "max" else -1
        return sign * (node.score - parents[0].score)

    def latest(self, n: int, name: str | None, failed: bool = False) -> list[Node]:
        pool = [node for node in self.all if name in (None, node.trial.specialist)]
        return [node for node in pool if not failed or node.status in FAILED][::-1][:n]


def compare(lineage: Lineage, plain: Plain) -> None:
    """All questions, with their plain answers."""
    assert list(lineage) == plain.all
    assert len(lineage) == len(plain.all)
    assert lineage.head == plain.leader(confirmed=False)
    assert lineage.best == plain.leader(confirmed=True)
    assert lineage.pending() == [node for node in plain.all if node.status == "pending"]
    assert lineage.statuses() == Counter(node.status for node in plain.all)
    for n in (0, 1, 3, 100):
        assert lineage.leaderboard(n) == plain.ranked(*RANKED)[:n]
        for name in (None, *SPECIALISTS, "nobody"):
            assert lineage.recent(n, name) == plain.latest(n, name)
            assert lineage.failures(n, name) == plain.latest(n, name, failed=True)
    for node in plain.all:
        own = node.trial.oid
        assert own in lineage
        assert lineage[own] == lineage.get(own) == node
        assert lineage.chain(own) == plain.chain(own)
        assert lineage.depth_gain(own) == pytest.approx(plain.gain(node))
        assert lineage.parents(own) == [plain.by_oid[p] for p in node.trial.parents if p in plain.by_oid]
        same = [other for other in plain.all if other.trial.tree == node.trial.tree]
        assert lineage.same_tree(node.trial.tree) == same[0]
    for parent in [oid(number) for number in range(16)]:
        children = plain.children(parent)
        assert lineage.children(parent) == children
        assert lineage.children(parent, 2) == children[-2:]
    compare_figures(lineage, plain)


def compare_figures(lineage: Lineage, plain: Plain) -> None:
    """Trials, statuses, gain and seconds of each specialist."""
    figures = lineage.figures()
    assert set(figures) == {node.trial.specialist for node in plain.all} - {"baseline"}
    for name, found in figures.items():
        mine = [node for node in plain.all if node.trial.specialist == name]
        assert found.trials == len(mine)
        assert found.statuses == Counter(node.status for node in mine)
        keeps = [max(0.0, plain.gain(node) or 0.0) for node in mine if node.status == "keep"]
        assert found.gain == pytest.approx(math.fsum(keeps))
        assert found.seconds == pytest.approx(sum(node.summary.seconds for node in mine if node.summary))


@given(histories(), st.sampled_from([LOSS, GAIN]))
def test_every_answer_is_the_plain_one(history: tuple[list[Node], list[Node]], objective: Objective) -> None:
    """A lineage built at once answers as a walk over all trials does, whatever the order and the outcomes put again."""
    nodes, puts = history
    compare(Lineage(objective, puts), Plain(objective, nodes))


@given(histories(), st.sampled_from([LOSS, GAIN]))
def test_answers_stay_right_while_trials_come(history: tuple[list[Node], list[Node]], objective: Objective) -> None:
    """A lineage that is asked after each put keeps its indexes right: questions leave nothing stale behind."""
    _, puts = history
    lineage, known = Lineage(objective), dict[str, Node]()
    for node in puts:
        lineage.put(node)
        known[node.trial.oid] = node
        compare(lineage, Plain(objective, list(known.values())))


@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_putting_changes_nothing(history: tuple[list[Node], list[Node]], chance: random.Random) -> None:
    """Two clones that fetched the same trials in another order see the same, down to the last digit of a sum."""
    nodes, _ = history
    other = list(nodes)
    chance.shuffle(other)
    one, two = Lineage(LOSS, nodes), Lineage(LOSS, other)
    assert list(one) == list(two)
    assert one.figures() == two.figures()
    assert one.leaderboard() == two.leaderboard()
    assert {node.trial.tree: one.same_tree(node.trial.tree) for node in nodes} == {
        node.trial.tree: two.same_tree(node.trial.tree) for node in nodes
    }


def test_order_is_by_time_then_id() -> None:
    """Trials of one second have an order that all clones share."""
    nodes = [Node(trial(number, time=time)) for number, time in ((3, 5), (1, 5), (2, 4))]
    assert [node.trial.oid for node in Lineage(LOSS, nodes)] == [oid(2), oid(1), oid(3)]


def test_the_better_direction_decides() -> None:
    """The head of an accuracy is the highest, that of a loss the lowest."""
    nodes = [Node(trial(1), summary("keep", 1.0)), Node(trial(2), summary("keep", 2.0))]
    low, high = Lineage(LOSS, nodes).head, Lineage(GAIN, nodes).head
    assert low
    assert high
    assert (low.trial.oid, high.trial.oid) == (oid(1), oid(2))


def test_a_tie_goes_to_the_earlier() -> None:
    """An equal score found later is no better."""
    nodes = [Node(trial(1, time=9), summary("keep", 1.0)), Node(trial(2, time=3), summary("keep", 1.0))]
    assert [node.trial.oid for node in Lineage(LOSS, nodes).leaderboard()] == [oid(2), oid(1)]


def test_a_disqualified_trial_ranks_nowhere() -> None:
    """It has the best score, and no rank."""
    nodes = [Node(trial(1), summary("baseline", 1.0)), Node(trial(2, [1]), summary("disqualified", 0.0))]
    lineage = Lineage(LOSS, nodes)
    assert [node.trial.oid for node in lineage.leaderboard()] == [oid(1)]
    assert lineage.head == lineage.best == nodes[0]


def test_settling_a_trial_is_putting_its_outcome() -> None:
    """A pending or unreadable trial gets its outcome, and is pending no more."""
    lineage = Lineage(LOSS, [Node(trial(1)), Node(trial(2, [1]), None, "no note")])
    assert [node.status for node in lineage] == ["pending", "unreadable"]
    for number in (1, 2):
        lineage.settle(oid(number), summary("keep", 1.0 - number))
    assert [node.status for node in lineage] == ["keep", "keep"]
    assert lineage.pending() == []
    assert lineage.depth_gain(oid(2)) == 1.0


def test_an_empty_lineage_has_no_answer() -> None:
    """Nothing is found, and nothing is left behind by asking."""
    lineage = Lineage(LOSS)
    for _ in range(2):
        compare(lineage, Plain(LOSS, []))
    assert lineage.same_tree("x") is None
    assert lineage.get("x") is None
    with pytest.raises(KeyError):
        lineage["x"]


def test_a_long_chain_is_walked_as_far_as_asked() -> None:
    """The last steps of a chain of thousands cost no walk to its beginning."""
    nodes = [Node(trial(number, [number - 1], time=number)) for number in range(1, 3001)]
    lineage = Lineage(LOSS, nodes)
    assert lineage.chain(oid(3000), 3) == nodes[-3:]
    assert lineage.chain(oid(3000)) == nodes
