"""Lineage: every question has the answer that a plain walk over all trials gives, at the cost of an index."""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitresearch.lineage import RANKED, Lineage, Node
from gitresearch.outcome import FAILED, REVOKED, STATUSES, Summary
from gitresearch.study import Objective
from gitresearch.trial import Hypothesis, Trial

LOSS = Objective("loss")
WHO = {name: Hypothesis("a change", "demo", name) for name in ("opt", "arch", "data")}


def trial(number: int, *parents: int, at: int | None = None, who: str = "opt", tree: int | None = None) -> Trial:
    """Trial `number` on the trials of those numbers, a second later than the one before."""
    oids = tuple(f"{parent:040x}" for parent in parents)
    seconds = number if at is None else at
    return Trial(f"{number:040x}", f"{number if tree is None else tree:040x}", oids, seconds, WHO[who])


def summary(status: str = "discard", score: float | None = 1.0, **more: Any) -> Summary:
    """An outcome's head; a failure has no score."""
    head = Summary(status, "loss", None if status in FAILED else score, 0.0, 1, False, 1.5, "", "", "")
    return head._replace(**more)


def node(number: int, *parents: int, status: str = "discard", score: float | None = 1.0, **more: Any) -> Node:
    """An evaluated trial."""
    head = {key: more.pop(key) for key in ("confirmed", "seconds") if key in more}
    return Node(trial(number, *parents, **more), summary(status, score, **head))


def numbers(nodes: list[Node]) -> list[int]:
    """The trials' numbers."""
    return [int(found.trial.oid, 16) for found in nodes]


def test_an_empty_lineage_has_no_head() -> None:
    """Before the baseline nothing is known and nothing raises."""
    empty = Lineage(LOSS)
    assert (empty.head, empty.best, len(empty), list(empty), empty.leaderboard(), empty.recent(5)) == (
        None, None, 0, [], [], [],
    )  # fmt: skip
    assert (empty.pending(), empty.failures(5), empty.figures(), empty.statuses()) == ([], [], {}, Counter())
    assert (empty.get("x"), empty.children("x"), empty.same_tree("x"), "x" in empty) == (None, [], None, False)


def test_head_and_best_fall_back_to_the_baseline() -> None:
    """The head is the best keep; the best is the best confirmed one; until then both are the baseline."""
    lineage = Lineage(LOSS, [node(1, 99, status="baseline", score=3.0), node(2, 1, score=1.0)])
    assert lineage.head is lineage.best is lineage[trial(1).oid]
    lineage.put(node(3, 1, status="keep", score=2.5))
    lineage.put(node(4, 1, status="keep", score=2.0, confirmed=True))
    lineage.put(node(5, 1, status="keep", score=1.5))
    assert (lineage.head, lineage.best) == (lineage[trial(5).oid], lineage[trial(4).oid])
    lineage.settle(trial(5).oid, summary("discard", 2.2))
    assert lineage.head is lineage.best


def test_a_higher_metric_is_ranked_the_other_way_round() -> None:
    """The direction of the objective decides what is first."""
    lineage = Lineage(Objective("acc", "max"), [node(n, 1, status="keep", score=n / 10) for n in (2, 3, 4)])
    assert numbers(lineage.leaderboard()) == [4, 3, 2]
    assert lineage.depth_gain(trial(2).oid) is None


def test_the_earlier_trial_wins_a_tie() -> None:
    """Equal scores rank by commit time, then oid, which every clone sees alike."""
    lineage = Lineage(LOSS, [node(7, 1, at=5), node(6, 1, at=5), node(8, 1, at=4)])
    assert numbers(lineage.leaderboard()) == [8, 6, 7]


def test_a_disqualified_or_failed_trial_never_ranks() -> None:
    """A score that missed a gate is no score to look up to."""
    lineage = Lineage(
        LOSS, [node(2, 1, status="disqualified", score=0.1), node(3, 1, status="crash"), Node(trial(4, 1))]
    )
    assert lineage.leaderboard() == []
    assert numbers(lineage.failures(9)) == [3]


def test_waiting_unreadable_and_failed_are_three_things() -> None:
    """A trial without a note waits; one whose note can't be read neither waits nor failed."""
    lineage = Lineage(
        LOSS, [Node(trial(3, 1)), Node(trial(2, 1)), Node(trial(4, 1), None, "garbled"), node(5, status="crash")]
    )
    assert numbers(lineage.pending()) == [2, 3]
    assert lineage.statuses() == {"pending": 2, "unreadable": 1, "crash": 1}
    lineage.settle(trial(4).oid, summary("keep", 1.0))
    assert lineage[trial(4).oid].broken == ""
    assert lineage.statuses()["keep"] == 1


def test_gains_follow_the_parent_that_is_measured_anew() -> None:
    """A keep's gain is over its first parent as that is known now, wherever the parent came from."""
    lineage = Lineage(LOSS, [node(3, 2, status="keep", score=1.0, who="arch"), node(4, 2, status="keep", score=5.0)])
    assert lineage.figures()["arch"].gain == 0.0
    lineage.put(node(2, 1, status="keep", score=2.0))
    assert (lineage.figures()["arch"].gain, lineage.figures()["opt"].gain) == (1.0, 0.0)
    lineage.settle(trial(2).oid, summary("discard", 4.0))
    assert lineage.figures()["arch"].gain == 3.0
    assert lineage.depth_gain(trial(4).oid) == -1.0


def test_figures_leave_out_the_baseline_and_can_be_kept() -> None:
    """What was handed out doesn't change when the next trial comes."""
    started = Node(
        Trial("b" * 40, "b" * 40, (), 0, Hypothesis("base", "demo", "baseline", "baseline")), summary("baseline")
    )
    lineage = Lineage(LOSS, [started, node(2, 1, seconds=0.1), node(3, 1, seconds=0.2)])
    figures = lineage.figures()
    assert list(figures) == ["opt"]
    lineage.put(node(4, 1, status="crash"))
    assert (figures["opt"].trials, figures["opt"].statuses, figures["opt"].seconds) == (2, {"discard": 2}, 0.3)


def test_a_chain_goes_along_first_parents() -> None:
    """A combination's story is that of its first parent; a bound shortens the walk from the old end."""
    lineage = Lineage(LOSS, [node(1), node(2, 1), node(3, 1), node(4, 3, 2), node(5, 4)])
    assert numbers(lineage.chain(trial(5).oid)) == [1, 3, 4, 5]
    assert numbers(lineage.chain(trial(5).oid, 2)) == [4, 5]
    assert numbers(lineage.parents(trial(4).oid)) == [3, 2]
    assert numbers(lineage.children(trial(1).oid)) == [2, 3]
    assert numbers(lineage.children(trial(1).oid, 1)) == [3]
    assert numbers(lineage.children(trial(2).oid)) == [4]


def test_the_earliest_trial_of_a_tree_is_named() -> None:
    """Whatever the order of coming, a repeat is told of the first that tried it."""
    twins = [node(3, 1, tree=9), node(2, 1, tree=9)]
    for order in (twins, twins[::-1]):
        found = Lineage(LOSS, order).same_tree(f"{9:040x}")
        assert found is not None
        assert found.trial.oid == trial(2).oid


MADE = st.tuples(
    st.integers(0, 25), st.sampled_from([*STATUSES, "pending", "unreadable"]), st.integers(0, 4), st.booleans()
)


def made(draw: tuple[int, str, int, bool]) -> Node:
    """A node out of drawn numbers; parents have smaller numbers, times need not follow them."""
    number, status, score, confirmed = draw
    this = trial(  # what git holds of a trial never changes: it follows from its number
        number, *([number // 2] if number else []), at=number % 7, who=list(WHO)[number % 3], tree=number % 5
    )
    if status in ("pending", "unreadable"):
        return Node(this, None, "garbled" if status == "unreadable" else "")
    return Node(this, summary(status, score / 2, confirmed=confirmed, seconds=score / 10))


@given(st.lists(MADE, max_size=60), st.sampled_from([LOSS, Objective("loss", "max")]), st.integers(0, 9), st.data())
def test_every_answer_is_that_of_a_plain_walk(
    draws: list[tuple[int, str, int, bool]], objective: Objective, n: int, data: st.DataObject
) -> None:
    """Put in any order, replaced at will and asked in between, the indexes agree with a scan of what there is."""
    lineage = Lineage(objective, map(made, draws[: len(draws) // 2]))
    known = {found.trial.oid: found for found in map(made, draws[: len(draws) // 2])}
    for draw in draws[len(draws) // 2 :]:
        lineage.put(made(draw))
        known[made(draw).trial.oid] = made(draw)
        if data.draw(st.booleans()):
            agrees(lineage, known, n)
    agrees(lineage, known, n)
    shuffled = list(known.values())
    data.draw(st.randoms(use_true_random=False)).shuffle(shuffled)
    again = Lineage(objective, shuffled)
    assert (list(again), again.figures(), again.head) == (list(lineage), lineage.figures(), lineage.head)


def agrees(lineage: Lineage, known: dict[str, Node], n: int) -> None:
    """Compare each answer with the plain one."""
    every = sorted(known.values(), key=lambda found: (found.trial.time, found.trial.oid))
    sign = 1 if lineage.objective.direction == "min" else -1

    def best(pool: list[Node]) -> list[Node]:
        scored = [found for found in pool if found.score is not None]
        return sorted(scored, key=lambda found: (sign * (found.score or 0), found.trial.time, found.trial.oid))

    keeps = [found for found in every if found.status == "keep"]
    base = best([found for found in every if found.status == "baseline"])
    confirmed = [found for found in keeps if found.summary and found.summary.confirmed]
    assert list(lineage) == every
    assert lineage.head == next(iter(best(keeps) or base), None)
    assert lineage.best == next(iter(best(confirmed) or base), None)
    assert lineage.leaderboard(n) == best([found for found in every if found.status in RANKED])[:n]
    assert lineage.recent(n) == every[::-1][:n]
    assert lineage.recent(n, "opt") == [found for found in every[::-1] if found.trial.specialist == "opt"][:n]
    offered = [found for found in every[::-1] if found.status != "invalid"]
    assert lineage.offered(n) == offered[:n]
    assert lineage.offered(n, "opt") == [found for found in offered if found.trial.specialist == "opt"][:n]
    assert lineage.failures(n) == [found for found in offered if found.failed][:n]
    assert lineage.failures(n, "arch") == [f for f in offered if f.failed and f.trial.specialist == "arch"][:n]
    assert lineage.pending() == [found for found in every if found.status == "pending"]
    assert lineage.statuses() == Counter(found.status for found in every)
    for oid in known:
        assert lineage.children(oid) == [found for found in every if oid in found.trial.parents]
    for name, figures in lineage.figures().items():
        own = [found for found in every if found.trial.specialist == name]
        assert (figures.trials, figures.statuses) == (len(own), Counter(found.status for found in own))
        gains = [lineage.depth_gain(found.trial.oid) or 0.0 for found in own if found.status == "keep"]
        assert figures.gain == pytest.approx(sum(gain for gain in gains if gain > 0))


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Trials with any earlier trials for parents, in any order of coming."""
    nodes = []
    for number in range(1, draw(st.integers(1, 14))):
        parents = draw(st.lists(st.integers(0, number - 1), max_size=2, unique=True))  # 0 is the base commit
        status, score = draw(st.sampled_from([("keep", 1.0), ("keep", 0.5), ("discard", 2.0), ("crash", 0.0)]))
        where = {"at": draw(st.integers(0, 4)), "tree": draw(st.integers(0, 6))}
        nodes.append(node(number, *parents, status=status, score=score, **where))
    return draw(st.permutations(nodes))


@given(graphs(), st.sampled_from([LOSS, Objective("loss", "max")]))
def test_ways_through_a_graph_are_those_of_a_plain_walk(nodes: list[Node], objective: Objective) -> None:
    """Parents, children, chains, gains and twins in any graph, combinations included."""
    lineage, known = Lineage(objective, nodes), {found.trial.oid: found for found in nodes}
    every = sorted(nodes, key=lambda found: (found.trial.time, found.trial.oid))
    for oid, found in known.items():
        parents = [known[parent] for parent in found.trial.parents if parent in known]
        assert lineage.parents(oid) == parents
        assert lineage.children(oid) == [child for child in every if oid in child.trial.parents]
        assert lineage.same_tree(found.trial.tree) == next(f for f in every if f.trial.tree == found.trial.tree)
        chain = [found]
        while before := [known[parent] for parent in chain[0].trial.parents if parent in known]:
            chain.insert(0, before[0])
        assert lineage.chain(oid) == chain
        assert lineage.chain(oid, 2) == chain[-2:]
        scores = [each.score for each in (found, *parents[:1]) if each.score is not None]
        gain = objective.gain(scores[0], scores[1]) if len(scores) == 2 else None
        assert lineage.depth_gain(oid) == gain


def test_only_trials_in_their_own_right_have_evaluated_their_files() -> None:
    """A replicate's outcome, one that was taken back, or our own fault, leaves other trials with these files due."""
    one, two, again = (trial(n, 99, tree=7) for n in (1, 2, 3))
    again = again._replace(hypothesis=replace(again.hypothesis, operator="replicate"))
    lineage = Lineage(LOSS, [Node(one), Node(again, summary())])
    assert lineage.twin(one) is None
    lineage.put(Node(two, summary("harness_abort")))
    assert lineage.twin(one) is None
    lineage.put(Node(two, summary()))
    assert lineage.twin(one) == lineage[two.oid]
    assert lineage.twin(two) is lineage.twin(again) is None
    lineage.put(Node(two, summary("invalid", label=REVOKED)))
    assert lineage.twin(one) is None


@pytest.mark.slow
def test_a_turn_costs_the_same_however_long_the_history() -> None:
    """What the loop asks each turn takes a look-up at 30,000 trials; a scan would take a hundred times as long."""
    rng = random.Random(1)
    mix = ["keep", *["discard"] * 8, "crash", "crash", "size_blocked"]
    nodes = [node(n, rng.randrange(n), status=rng.choice(mix), score=rng.random(), at=n // 3, who=rng.choice(list(WHO)))
             for n in range(1, 30_000)]  # fmt: skip
    lineage = Lineage(LOSS, [node(0, status="baseline", score=2.0), *nodes])

    def asked() -> None:
        assert lineage.head
        assert lineage.best
        found = [lineage.leaderboard(10), lineage.recent(15), lineage.recent(1, "opt"), lineage.failures(8)]
        assert all(found)
        assert lineage.figures()
        assert lineage.statuses()
        lineage.children(trial(0).oid, 15)

    def put() -> None:
        late = trial(rng.randrange(10**9, 10**10), 0, at=9_999)  # between the others: same second, any oid
        lineage.put(Node(late))
        lineage.settle(late.oid, summary("discard", rng.random()))

    asked()
    scan = quickest(lambda: sum(node.score is not None for node in lineage))
    assert quickest(asked) < scan / 2
    assert quickest(put) < scan / 2


def quickest(work: Callable[[], None]) -> float:
    """Seconds of the quickest of some tries: a busy machine slows single ones."""
    times = []
    for _ in range(15):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
