"""The choice of specialist, operator and parent: everyone gets turns, what pays draws more, any trial may be next."""

import sys
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace

import pytest

from gitresearch.lineage import Lineage, Node
from gitresearch.outcome import Summary
from gitresearch.policy import Turn, ablatable, combinable, next_turn, repairable
from gitresearch.study import Study, load
from gitresearch.trial import Hypothesis, Trial

STUDY = load("""
name = "s"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[evaluator]
hook = "hook.py"
[[specialists]]
name = "one"
surface = ["train.py"]
[[specialists]]
name = "two"
surface = ["train.py"]
[[specialists]]
name = "three"
surface = ["train.py"]
""")
BASELINE = 1


def oid(number: int) -> str:
    """The number as an object id whose first digits tell it."""
    return f"{number:08x}" + "0" * 32


def node(
    number: int, score: float | None = 2.0, status: str = "discard", by: str = "one", on: Collection[int] = (BASELINE,),
    *, operator: str = "improve", subject: str = "", confirmed: bool = False,
) -> Node:  # fmt: skip
    """The trial of that number."""
    operator = "baseline" if number == BASELINE else operator
    hypothesis = Hypothesis(subject or f"change {number}", "s", "baseline" if number == BASELINE else by, operator)
    parents = tuple(oid(parent) for parent in on) if number != BASELINE else ()
    summary = Summary(status, "loss", score, 0.01, 2, confirmed, 1.0, "2026-01-01T00:00:00Z", "", "")
    return Node(Trial(oid(number), oid(number), parents, number, hypothesis), None if status == "pending" else summary)


def lineage(*nodes: Node) -> Lineage:
    """A baseline of 2.0 ± 0.01 and these."""
    return Lineage(STUDY.objective, [node(BASELINE, 2.0, "baseline"), *nodes])


def turns(found: Lineage, count: int = 300, study: Study = STUDY, **more: object) -> list[Turn]:
    """What so many seeds draw."""
    drawn = [next_turn(study, found, {}, set(), seed, **more) for seed in range(count)]  # type: ignore[arg-type]
    return [turn for turn in drawn if turn]


def seen(turns: Iterable[Turn]) -> Counter[str]:
    """How often each operator was drawn."""
    return Counter(turn.operator for turn in turns)


EVERYONE = [node(2, by="one"), node(3, by="two"), node(4, by="three")]


def test_there_is_nothing_to_start_from() -> None:
    """Without a measured baseline, and where every specialist is tired, nobody's turn it is."""
    assert next_turn(STUDY, Lineage(STUDY.objective), {}, set(), 0) is None
    assert next_turn(STUDY, lineage(), {}, {"one", "two", "three"}, 0) is None


def test_everyone_gets_a_turn_before_one_gets_two() -> None:
    """Turns under way count; who is tired is passed over."""
    assert {turn.specialist.name for turn in turns(lineage())} == {"one"}
    assert {turn.specialist.name for turn in turns(lineage(node(2, by="one")))} == {"two"}
    turn = next_turn(STUDY, lineage(node(2, by="one")), {"two": 1}, set(), 0)
    assert turn is not None
    assert turn.specialist.name == "three"
    assert {turn.specialist.name for turn in turns(lineage(*EVERYONE))} == {"one", "two", "three"}


def test_a_whole_study_gives_everyone_turns() -> None:
    """One specialist's every trial is kept, another's all fail: the others are asked less often, never not."""
    found, counts = lineage(), Counter[str]()
    for number in range(2, 200):
        turn = next_turn(STUDY, found, {}, set(), 7)
        assert turn is not None
        name = turn.specialist.name
        counts[name] += 1
        kept = name == "two"
        by = {"one": "crash", "two": "keep", "three": "discard"}[name]
        found.put(node(number, 2 - number / 1000 if kept else 3.0 if by == "discard" else None, by, name))
    assert counts["two"] > 2 * max(counts["one"], counts["three"])
    assert min(counts.values()) >= 15


@pytest.mark.parametrize(
    ("near", "more"),
    [(node(2, 2.015), True), (node(2, None, "size_blocked"), False), (node(2, 1.9, "disqualified"), False)],
    ids=["within noise", "blocked", "gate missed"],
)
def test_near_misses_draw_more(near: Node, more: bool) -> None:
    """What lies within the noise of the head is worth more turns than a plain failure. What a limit blocked is not: a
    score that is bought with bytes or with a gate is no art."""
    plain = [node(3, 3.0, by="two"), node(4, 3.0, by="three")]
    counts = Counter(turn.specialist.name for turn in turns(lineage(near, *plain)))
    assert (counts["one"] > 1.5 * max(counts["two"], counts["three"])) == more


def test_the_same_draw_again() -> None:
    """Study, lineage and seed fix the turn, whatever the order the trials came in; another seed moves it."""
    nodes = [node(2, 1.9, "keep"), node(3, 1.8, "keep", on=[2]), node(4, 1.95, "keep", "two"), node(5, by="three")]
    one, other = lineage(*nodes), lineage(*reversed(nodes))
    assert turns(one) == turns(other)
    assert len({(turn.specialist.name, turn.operator, turn.parent.oid, turn.seed) for turn in turns(one)}) > 50


def test_two_slots_do_not_draw_alike() -> None:
    """Turns drawn while others are under way have seeds of their own."""
    found = lineage(*EVERYONE)
    drawn = [next_turn(STUDY, found, {"one": busy}, set(), 0) for busy in range(5)]
    assert len({turn.seed for turn in drawn if turn}) == 5


def test_from_the_baseline_it_is_a_draft() -> None:
    """Any other parent is improved."""
    assert set(seen(turns(lineage(*EVERYONE[1:])))) == {"draft", "improve"}
    drawn = turns(lineage(node(2, 1.5, "keep"), *EVERYONE[1:]))
    assert {turn.parent.oid for turn in drawn if turn.operator == "draft"} == {oid(BASELINE)}
    assert seen(drawn)["improve"] > 200


def test_any_ranked_trial_can_be_a_parent() -> None:
    """Mostly the head; else the better the likelier, discards too, and a confirmed one more than its neighbours."""
    scores = [node(n, 1 + n / 100, "discard", by="two") for n in range(10, 30)]
    found = lineage(node(2, 1.0, "keep"), node(5, 1.275, "keep", confirmed=True), *scores, *EVERYONE[1:])
    starts = Counter(turn.parent.oid for turn in turns(found, 3000) if turn.operator in ("improve", "draft"))
    assert starts.keys() >= {node.trial.oid for node in found}
    assert starts[oid(2)] > 0.75 * starts.total()
    assert starts[oid(11)] > starts[oid(28)]
    assert starts[oid(5)] > 1.2 * starts[oid(28)]


def test_failures_are_repaired() -> None:
    """The specialist's latest first, then what was blocked, latest first; what somebody went on from is done, and what
    missed a gate with a score worse than the head's is not worth it."""
    blocked = [node(3, None, "size_blocked"), node(4, 1.5, "disqualified"), node(5, 1.9, "disqualified")]
    found = lineage(
        *blocked,
        node(2, 2.5, "disqualified"),
        node(6, None, "crash"),
        node(7, None, "crash"),
        node(8, None, "crash", "two"),
    )
    assert [one.trial.oid for one in repairable(found, "one")] == [oid(7), oid(5), oid(4), oid(3)]
    found.put(node(9, None, "pending", "three", [5]))
    assert [one.trial.oid for one in repairable(found, "one")] == [oid(7), oid(4), oid(3)]
    drawn = [turn for turn in turns(found) if turn.operator == "repair"]
    assert {turn.parent.oid for turn in drawn} == {oid(7), oid(4), oid(3), oid(8)}
    assert {turn.parent.oid for turn in drawn if turn.specialist.name == "two"} == {oid(8)}


def chain(*gains: float) -> list[Node]:
    """Keeps one on the other from number 10, each better than the last by so much."""
    found, score = [], 2.0
    for number, gain in enumerate(gains, 10):
        score -= gain
        found.append(node(number, score, "keep", on=[number - 1 if number > 10 else BASELINE]))
    return found


def test_keeps_are_combined_once() -> None:
    """Those that the head doesn't stand on and that don't stand on it, until a combination of the two is there."""
    head = chain(0.1, 0.1)
    aside = [node(20, 1.9, "keep", "two"), node(21, 1.95, "keep", "three"), node(22, 1.99, "keep", on=[11])]
    found = lineage(*head, *aside)
    assert found.head is not None
    assert [one.trial.oid for one in combinable(found, found.head)] == [oid(20), oid(21)]
    drawn = [turn for turn in turns(found) if turn.operator == "combine"]
    assert {(turn.parent.oid, turn.other.oid) for turn in drawn if turn.other} == {
        (oid(11), oid(20)),
        (oid(11), oid(21)),
    }
    found.put(node(30, None, "crash", on=[11, 20], operator="combine"))
    found.put(node(31, None, "crash", on=[21, 11], operator="combine"))
    assert combinable(found, found.head) == []


def test_steps_below_the_head_are_ablated_once() -> None:
    """Those that gained least first; never the head's own, whose parent's files are known."""
    found = lineage(*chain(0.3, 0.1, 0.2))
    assert found.head is not None
    assert [one.trial.oid for one in ablatable(found, found.head)] == [oid(11), oid(10)]
    drawn = [turn for turn in turns(found, 600) if turn.operator == "ablate"]
    assert {(turn.parent.oid, turn.other.oid) for turn in drawn if turn.other} == {
        (oid(12), oid(11)),
        (oid(12), oid(10)),
    }
    found.put(node(30, on=[12], operator="ablate", subject=f"ablate {oid(11)[:8]}: change 11"))
    assert [one.trial.oid for one in ablatable(found, found.head)] == [oid(10)]
    single = lineage(*chain(0.3))
    assert single.head is not None
    assert ablatable(single, single.head) == []


def test_what_was_begun_is_not_begun_again() -> None:
    """A loop that remembers a repair, combination or ablation draws everything else."""
    found = lineage(*chain(0.1, 0.1), node(20, 1.9, "keep", "two"), node(21, None, "crash", "three"))
    every = turns(found, 600)
    assert seen(every).keys() == {"draft", "improve", "repair", "combine", "ablate"}
    begun = {turn.once for turn in every if turn.once}
    assert seen(turns(found, 600, begun=begun)).keys() == {"draft", "improve"}


def test_the_control_arm_improves_the_head() -> None:
    """Without lineage no other trial is a parent, and nothing is repaired, combined or taken out."""
    bare = replace(STUDY, agent=replace(STUDY.agent, lineage=False))
    found = lineage(*chain(0.1, 0.1), node(20, 1.9, "keep", "two"), node(21, None, "crash", "three"))
    drawn = turns(found, study=bare)
    assert (seen(drawn), {turn.parent.oid for turn in drawn}) == (Counter(improve=300), {oid(11)})


def test_nothing_is_replicated_by_itself() -> None:
    """Fresh seeds are the decision's affair; a replicate is no near miss to go on from either."""
    again = node(20, 1.801, on=[11], operator="replicate")
    found = lineage(*chain(0.1, 0.1), again, *EVERYONE[1:])
    assert "replicate" not in seen(turns(found, 600))
    assert not found.close(again)
    assert found.close(node(21, 1.801, on=[11]))


def test_why_a_turn_was_drawn_is_told() -> None:
    """Specialists and operators with their weights, and where it starts, in a line."""
    found = lineage(*chain(0.1, 0.1), *EVERYONE[1:])
    told = {turn.why for turn in turns(found)}
    assert "two of one 5, two 1, three 1; improve of improve 5, ablate 0.5; from the head (1.8), 5 ranked" in told
    assert turns(lineage())[0].why == "one had no turn yet; improve of improve 5; from the head (2), 1 ranked"
    assert all("\n" not in why and len(why) < 200 for why in told)


def calls(found: Lineage) -> int:
    """How many functions the dearest of some turns calls; the first sorts the indexes."""
    counted = [0]

    def count(_frame: object, event: str, _argument: object) -> None:
        counted[0] += event in ("call", "c_call")

    dearest = 0
    for seed in range(-1, 20):
        counted[0] = 0
        sys.setprofile(count)
        try:
            next_turn(STUDY, found, {}, set(), seed)
        finally:
            sys.setprofile(None)
        dearest = max(dearest, counted[0]) if seed >= 0 else 0
    return dearest


def long(count: int) -> Lineage:
    """So many trials: every tenth a keep on the last keep or aside, the others failures, near misses and discards."""
    names, last, nodes = ("one", "two", "three"), BASELINE, []
    for number in range(2, count):
        by = names[number % 3]
        if number % 10:
            status = ("discard", "crash", "size_blocked", "disqualified")[number % 4]
            score = 2 + number / count if status in ("discard", "disqualified") else None
            nodes.append(node(number, score, status, by, [last]))
        else:
            nodes.append(node(number, 2 - number / count, "keep", by, [last if number % 30 else BASELINE]))
            last = number if number % 30 else last
    return lineage(*nodes)


@pytest.mark.slow
def test_a_turn_costs_the_same_in_a_long_study() -> None:
    """Counted in calls: thirty times the trials, no more work than the bounds on what a question looks at allow."""
    assert calls(long(60_000)) < 1.5 * calls(long(2_000))


def test_nothing_starts_from_an_invalid_trial() -> None:
    """However good it once looked: no turn goes on from it, repairs it, combines it or takes it out again."""
    struck = node(5, None, "invalid", on=(2,))
    found = lineage(node(2, 1.9, "keep"), node(3, 2.5, by="two"), struck, node(6, 1.5, "keep", on=(5,)), *EVERYONE[2:])
    drawn = turns(found, 600)

    assert {"improve", "ablate"} <= set(seen(drawn))
    assert all(oid(5) not in (turn.parent.oid, turn.other.oid if turn.other else "") for turn in drawn)
