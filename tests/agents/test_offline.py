"""The offline agent: levers found in source, edits to the byte, choices that follow the lineage."""

import ast
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gitresearch.agents import ProposalFailed, Request
from gitresearch.agents.offline import OfflineAgent, steer
from gitresearch.agents.offline.history import Archive, inside
from gitresearch.agents.offline.learned import Learned
from gitresearch.agents.offline.limits import foretold, margins
from gitresearch.lineage import Lineage, Node
from gitresearch.outcome import Outcome, Run, Summary, summarise
from gitresearch.study import Objective, Study, load
from gitresearch.surface import Surface
from gitresearch.trial import Hypothesis, Trial

TOP = Path(__file__).resolve().parents[2]
GOLF = load((TOP / "recipes/parameter_golf/study.toml").read_text())
SOURCE = b'''"""A recipe."""
from typing import Annotated, Literal

LR: Annotated[float, "1e-4..1e-1 log"] = 2e-3  # a comment that stays
ACTIVATION: Literal["gelu", "relu"] = "gelu"
TIED = True
'''


def study(surface: str = "train.py", more: str = "") -> Study:
    return load(
        f"""
name = "s"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[evaluator]
hook = "hook.py"
[[specialists]]
name = "one"
surface = ["{surface}"]
{more}
"""
    )


def summary_of(seconds: float) -> Summary:
    """Of a trial that took so long, and was measured."""
    run = Run(1, "screen", "ok", {"total_seconds": seconds}, train_seconds=seconds)
    return summarise("discard", "total_seconds", [run], "2026-01-01T00:00:00Z")


def trial(number: int, parent: str, operator: str = "improve") -> Trial:
    made = Hypothesis.from_text(f"trial {number}", study="s", specialist="one", operator=operator)
    oid = f"{number:040x}"
    return Trial(oid=oid, tree=oid, parents=(parent,) if parent else (), time=number, hypothesis=made)


def outcome(status: str, loss: float | None) -> Summary:
    metrics = {} if loss is None else {"loss": loss}
    return summarise(
        status, "loss", [Run(1, "screen", status if loss is None else "ok", metrics)], "2026-01-01T00:00:00Z"
    )


def request(
    files: Mapping[str, bytes], nodes: list[tuple[Trial, Summary | None]], sources: Mapping[str, bytes], *,
    which: Study | None = None, seed: int = 1, parent: Trial | None = None, operator: str = "improve",
    outcomes: Mapping[str, Outcome] | None = None,
) -> Request:  # fmt: skip
    which = which or study()
    lineage = Lineage(which.objective, [Node(t, s) for t, s in nodes])
    return Request(
        study=which, specialist=which.specialists[0], operator=operator, parent=parent or nodes[0][0], files=files,
        brief="", lineage=lineage, seed=seed,
        files_of=lambda oid: {"train.py": sources[oid]} if oid in sources else dict(files),
        outcome_of=(outcomes or {}).get,
    )  # fmt: skip


BASE = trial(1, "", "baseline")
FRESH = [(BASE, outcome("baseline", 2.0))]


def test_an_edit_changes_the_literals_and_not_a_byte_more() -> None:
    """What is not a lever's value stays as it was: comments, layout, imports."""
    proposal = OfflineAgent().propose(request({"train.py": SOURCE}, FRESH, {}))
    after = proposal.edits["train.py"] or b""

    ast.parse(after)
    for before, now in zip(SOURCE.splitlines(), after.splitlines(), strict=True):
        head, _, tail = before.partition(b"= ")
        assert now.startswith(head)
        assert now.endswith(tail.partition(b"  #")[2])
    assert after != SOURCE


@pytest.mark.parametrize("seed", range(12))
def test_values_stay_in_their_domains_and_hypotheses_are_readable(seed: int) -> None:
    """Every value is one its annotation allows, and every subject says what is changed."""
    proposal = OfflineAgent().propose(request({"train.py": SOURCE}, FRESH, {}, seed=seed))
    names: dict[str, object] = {}
    exec(compile(proposal.edits["train.py"] or b"", "train.py", "exec"), names)

    assert 1e-4 <= names["LR"] <= 1e-1  # type: ignore[operator]
    assert names["ACTIVATION"] in ("gelu", "relu")
    assert isinstance(names["TIED"], bool)
    assert any(name in proposal.hypothesis.subject for name in ("LR", "ACTIVATION", "TIED"))


IDLE = b"""from typing import Annotated, Literal

KIND: Literal["none", "ema", "tail"] = "none"
DECAY: Annotated[float, "0.9..0.999", "if KIND == ema"] = 0.98
EVERY: Annotated[Literal[1, 2, 5], "if KIND"] = 1
SIZE: Annotated[int, "1..9", "if KIND in ema tail"] = 3
SHARP: Annotated[bool, "if RATE != 0.0"] = False
RATE: Annotated[float, "0..1"] = 0.0
"""


def constants(source: bytes) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(source, "train.py", "exec"), names)
    return {name: value for name, value in names.items() if name.isupper()}


def test_a_lever_that_does_nothing_is_left_alone() -> None:
    """What the recipe says depends on another lever moves only where that one is set, or with the move that sets it."""
    before, moved = constants(IDLE), set()
    for seed in range(60):
        made = constants(
            OfflineAgent().propose(request({"train.py": IDLE}, FRESH, {}, seed=seed)).edits["train.py"] or b""
        )
        changed = {name for name in made if made[name] != before[name]}
        moved |= changed
        assert "DECAY" not in changed or made["KIND"] == "ema"
        assert not changed & {"EVERY", "SIZE"} or made["KIND"] != "none"
        assert "SHARP" not in changed or made["RATE"]
    assert moved == set(before)


def test_a_condition_that_cannot_be_read_is_said_with_its_line() -> None:
    """A recipe's mistake is told, not passed over."""
    source = SOURCE + b'KEEP: Annotated[float, "0..1", "if KIND is ema"] = 0.5\n'
    with pytest.raises(ProposalFailed, match=r"train.py:7: the condition 'if KIND is ema' can't be read"):
        OfflineAgent().propose(request({"train.py": source}, FRESH, {}))


def test_the_same_lineage_and_seed_give_the_same_proposal() -> None:
    """A proposal is a function of lineage and seed: nothing is remembered that git does not hold."""
    first, again = (OfflineAgent().propose(request({"train.py": SOURCE}, FRESH, {}, seed=5)) for _ in range(2))

    assert first.edits == again.edits
    assert first.hypothesis == again.hypothesis


def test_what_gained_is_followed() -> None:
    """Where lower rates lost and higher ones gained, proposals raise the rate more often than they lower it."""
    nodes, sources = list(FRESH), {}
    for number, (rate, loss) in enumerate([(5e-4, 2.6), (1e-3, 2.3), (4e-3, 1.8), (8e-3, 1.6)], 2):
        nodes.append((trial(number, BASE.oid), outcome("discard", loss)))
        sources[nodes[-1][0].oid] = SOURCE.replace(b"2e-3", str(rate).encode())
    rates = []
    for seed in range(20):
        names: dict[str, object] = {}
        edits = OfflineAgent().propose(request({"train.py": SOURCE}, nodes, sources, seed=seed)).edits
        exec(compile(edits["train.py"] or b"", "train.py", "exec"), names)
        rates.append(names["LR"])

    assert sum(rate > 2e-3 for rate in rates) > 2 * sum(rate < 2e-3 for rate in rates)  # type: ignore[operator]


def test_a_value_that_crashes_is_left_alone() -> None:
    """After a choice crashed three times and its rival ran, proposals keep to the rival."""
    nodes, sources = list(FRESH), {}
    for number in range(2, 8):
        crashed = number % 2
        source = SOURCE.replace(b'= "gelu"', b'= "relu"') if crashed else SOURCE
        source = source.replace(b"2e-3", f"{number}e-3".encode())
        nodes.append((trial(number, BASE.oid), outcome("crash", None) if crashed else outcome("discard", 2.0)))
        sources[nodes[-1][0].oid] = source
    chosen = [
        b'= "relu"'
        in (OfflineAgent().propose(request({"train.py": SOURCE}, nodes, sources, seed=s)).edits["train.py"] or b"")
        for s in range(20)
    ]

    assert sum(chosen) <= 4


def test_a_gain_that_misses_a_gate_is_not_followed() -> None:
    """Values whose trials were disqualified are avoided like those that crash, however good their scores."""
    low = [trial(n, BASE.oid) for n in range(2, 10)]
    sources = {t.oid: SOURCE.replace(b"2e-3", b"%.1e" % (1e-4 * n)) for n, t in enumerate(low, 2)}
    high = [trial(n, BASE.oid) for n in range(12, 20)]
    sources |= {t.oid: SOURCE.replace(b"2e-3", b"%.1e" % (4e-3 * n)) for n, t in enumerate(high, 2)}
    nodes = [*FRESH, *((t, outcome("disqualified", 1.0)) for t in low), *((t, outcome("discard", 2.1)) for t in high)]
    rates = []
    for seed in range(16):
        source = OfflineAgent().propose(request({"train.py": SOURCE}, nodes, sources, seed=seed)).edits["train.py"]
        rates.append(constants(source or b"")["LR"])
    assert sum(isinstance(rate, float) and rate < 1e-3 for rate in rates) <= 2


WIDE = b"""from typing import Annotated

WIDTH: Annotated[int, "1..100"] = 40
"""


def test_how_near_a_trial_came_to_a_limit_is_learned() -> None:
    """Wider gained each time and took more bytes: what does not fit any more is not proposed, though none failed."""
    capped = study(more="[budget]\nartefact_bytes = 1000")
    nodes, sources, outcomes = list(FRESH), {}, {}
    for number, width in enumerate((20, 30, 50, 60), 2):
        made, summary = trial(number, BASE.oid), outcome("discard", 2.4 - width / 100)
        nodes.append((made, summary))
        sources[made.oid] = WIDE.replace(b"40", b"%d" % width)
        run = Run(1, "screen", "ok", {"loss": 2.4 - width / 100}, artefact_bytes=width * 14)
        outcomes[made.oid] = Outcome(summary, (run,))

    def widths(known: Mapping[str, Outcome]) -> list[object]:
        asked = [request({"train.py": WIDE}, nodes, sources, which=capped, seed=s, outcomes=known) for s in range(16)]
        return [constants(OfflineAgent().propose(one).edits["train.py"] or b"")["WIDTH"] for one in asked]

    fits = 1000 // 14
    assert sum(isinstance(width, int) and width > fits for width in widths({})) >= 12
    assert sum(isinstance(width, int) and width > fits for width in widths(outcomes)) <= 3


def test_what_gains_at_a_limits_cost_goes_with_what_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a dozen levers one gained and missed the gate, another made room and gained nothing: both are turned at once
    more often than by luck."""
    gated = study(more='[[gates]]\nmetric = "right"\nat_least = 100')
    row = b'L%d: Annotated[float, "0..1"] = %.1f\n'
    source = b"from typing import Annotated\n" + b"".join(row % (n, 0.5) for n in range(12))
    nodes, sources, outcomes = list(FRESH), {}, {}
    for number, (name, to) in enumerate([(n, to) for n in range(12) for to in (0.1, 0.9)], 2):
        gain, room = (to - 0.5) * (name == 0), (to - 0.5) * ((name == 1) - (name == 0))
        run = Run(1, "screen", "ok", {"loss": 2.0 - gain, "right": 101.0 + 10 * room})
        made, status = trial(number, BASE.oid), "discard" if room > -0.1 else "disqualified"
        sources[made.oid] = source.replace(row % (name, 0.5), row % (name, to))
        nodes.append((made, summarise(status, "loss", [run], "")))
        outcomes[made.oid] = Outcome(outcome("discard", None), (run,))

    def both() -> int:
        asked = [
            request({"train.py": source}, nodes, sources, which=gated, seed=seed, outcomes=outcomes)
            for seed in range(14)
        ]
        found = [constants(OfflineAgent().propose(one).edits["train.py"] or b"") for one in asked]
        return sum(one["L0"] > 0.5 and one["L1"] > 0.5 for one in found)  # type: ignore[operator]

    together = both()
    monkeypatch.setattr(steer, "JOINED", 0)
    assert together >= 3 * max(1, both())


def test_what_is_left_of_each_limit_is_read_from_the_runs() -> None:
    """Gates, bytes and seconds as shares of their limits; a run that was stopped needed more than it got."""
    limited = study(
        more='[budget]\ntrain_seconds = 10\nartefact_bytes = 1000\n[[gates]]\nmetric = "right"\nat_least = 50'
    )
    fine = Run(1, "screen", "ok", {"right": 60.0}, train_seconds=8.0, artefact_bytes=900)
    slow = Run(2, "head", "train_budget_overrun", train_seconds=10.0, projected_bytes=1100)
    broken = Run(3, "head", "crash", train_seconds=1.0)
    found = margins(limited, Outcome(outcome("train_budget_overrun", None), (fine, slow, broken)))

    assert {name: [round(one, 6) for one in each] for name, each in found.items()} == {
        "bytes": [0.1, -0.1],
        "train_seconds": [0.2, -0.1],
        "right ≥ 50": [0.2],
    }


@pytest.mark.parametrize(
    ("metric", "baseline", "score"),
    [("total_seconds", 0.0, 9.0), ("relative_seconds", 3.0, 3.0), ("relative_seconds", 0.0, None), ("loss", 0.0, None)],
)
def test_what_was_too_slow_is_known_by_its_seconds(metric: str, baseline: float, score: float | None) -> None:
    """Those that it took and those that its end spared, in the score's units; nothing where these are not told."""
    timed = replace(study(), objective=Objective(metric))
    run = Run(1, "screen", "early_stop", train_seconds=4.0, saved_seconds=5.0, baseline_seconds=baseline)
    assert foretold(timed, Outcome(outcome("early_stop", None), (run,))) == score
    assert foretold(timed, Outcome(outcome("crash", None), (replace(run, status="crash"),))) is None


def test_by_how_much_a_trial_was_too_slow_is_learned() -> None:
    """What needs four times the time is avoided more than the usual loss would have it."""
    timed, base = replace(study(), objective=Objective("total_seconds")), summary_of(10.0)
    nodes: list[tuple[Trial, Summary | None]] = [(BASE, base)]
    sources, outcomes = {}, {}
    for number, (width, seconds) in enumerate(((20, 10.1), (30, 9.9), (70, 40.0), (80, 44.0)), 2):
        made, late = trial(number, BASE.oid), width > 50
        nodes.append((made, outcome("early_stop", None) if late else summary_of(seconds)))
        sources[made.oid] = WIDE.replace(b"40", b"%d" % width)
        run = Run(1, "screen", "early_stop", train_seconds=10.0, saved_seconds=seconds - 10.0)
        outcomes |= {made.oid: Outcome(outcome("early_stop", None), (run,))} if late else {}

    def gain(known: Mapping[str, Outcome]) -> float:
        scene = Archive().scene(request({"train.py": WIDE}, nodes, sources, which=timed, outcomes=known))
        learned = Learned.of(scene, timed.objective, BASE.oid).gains
        assert learned is not None
        return learned.predict({**scene.here, "train.py::WIDTH": 75})[0]

    assert gain(outcomes) < gain({}) - 1


HINTS = """[specialists.hints]
LR = [0.05, 7.0]
ACTIVATION = ["relu", "tanh"]
TIED = [0]
NOBODY = [1]
"""


def test_what_the_study_says_to_try_comes_first() -> None:
    """Hinted values are proposed until each was tried; what is outside a lever's domain, or no lever, is left out."""
    hinted, files = study(more=HINTS), {"train.py": SOURCE}
    first = [
        constants(OfflineAgent().propose(request(files, FRESH, {}, which=hinted, seed=s)).edits["train.py"] or b"")
        for s in range(12)
    ]
    assert all(named["LR"] == 0.05 or named["ACTIVATION"] == "relu" for named in first)

    said = OfflineAgent().propose(request(files, FRESH, {}, which=hinted)).hypothesis.body
    assert "The study says that it is worth trying." in said

    tried = trial(2, BASE.oid)
    nodes = [*FRESH, (tried, outcome("discard", 2.1))]
    sources = {tried.oid: SOURCE.replace(b"2e-3", b"0.05")}
    scene = Archive().scene(request(files, nodes, sources, which=hinted))
    assert {key: hints for key, hints in scene.hints.items() if hints} == {"train.py::ACTIVATION": ["relu"]}


@pytest.mark.parametrize("recipe", ["parameter_golf", "nanochat", "airbench"])
def test_the_shipped_hints_are_values_that_the_recipe_has(recipe: str) -> None:
    """Each hint names a constant of its specialist, and a value of its domain that is not there already."""
    shipped = load((TOP / "recipes" / recipe / "study.toml").read_text())
    files = {path.relative_to(TOP).as_posix(): path.read_bytes() for path in (TOP / "recipes" / recipe).rglob("*.py")}
    everywhere = Surface.of(shipped.surface)
    for specialist in shipped.specialists:
        surface = Surface.of(specialist.surface)
        levers = Archive.find(files, everywhere, surface)
        domains = {lever.name: lever for lever in levers if inside(lever, surface, files)}
        for name, values in specialist.hints.items():
            found = [domains[name].domain.nearest(value) for value in values]
            assert None not in found, (specialist.name, name)
            assert domains[name].value not in found, (specialist.name, name)


def test_nothing_is_proposed_twice() -> None:
    """Files that a trial already had are not proposed again; when all are tried the agent says so."""
    source = b"TIED = True\n"
    nodes = [*FRESH, (trial(2, BASE.oid), outcome("discard", 2.1))]
    with pytest.raises(ProposalFailed):
        OfflineAgent().propose(request({"train.py": source}, nodes, {nodes[1][0].oid: b"TIED = False\n"}))


@pytest.mark.parametrize(
    "source", [b"PROCESSES = 4\nSEED = 3\nLOG_EVERY = 10\n", b"import os\nprint(os.name)\n", b'"""Nothing here."""\n']
)
def test_a_surface_without_levers_is_said_to_be_one(source: bytes) -> None:
    """Where there is nothing to turn the error says how to state a domain."""
    with pytest.raises(ProposalFailed, match="no number, choice or switch"):
        OfflineAgent().propose(request({"train.py": source}, FRESH, {}))


def test_only_the_surfaces_symbols_are_touched() -> None:
    """With `path::symbol` as its surface, a specialist edits that symbol and nothing else in the file."""
    which = study("train.py::LR")
    for seed in range(6):
        proposal = OfflineAgent().propose(request({"train.py": SOURCE}, FRESH, {}, which=which, seed=seed))
        assert Surface.of(["train.py::LR"]).violations({"train.py": SOURCE}, proposal.edits) == []
        assert b'ACTIVATION: Literal["gelu", "relu"] = "gelu"' in (proposal.edits["train.py"] or b"")


def test_every_specialist_of_the_shipped_recipe_has_levers() -> None:
    """Each surface of the golf study yields proposals that parse and stay inside."""
    root = TOP / GOLF.recipe.root
    files = {f"{GOLF.recipe.root}/{path.name}": path.read_bytes() for path in root.glob("*.py")}
    made = Hypothesis.from_text("measure", study="golf", specialist="baseline", operator="baseline")
    base = Trial(oid="1" * 40, tree="1" * 40, parents=(), time=1, hypothesis=made)
    lineage = Lineage(GOLF.objective, [Node(base, outcome("baseline", 2.4)._replace(metric="val_bpb"))])
    for specialist in GOLF.specialists:
        asked = Request(GOLF, specialist, "draft", base, files, "", lineage, lambda _oid: files, 3)
        edits = OfflineAgent().propose(asked).edits
        assert asked.surface.violations(files, edits) == []
        for data in edits.values():
            ast.parse(data or b"")


def test_nothing_is_learned_from_an_invalid_trial() -> None:
    """It is no point of the search, and its files are not tried again."""
    base, struck = trial(1, ""), trial(2, f"{1:040x}")
    sources = {base.oid: SOURCE, struck.oid: SOURCE.replace(b"2e-3", b"3e-3")}
    asked = request(
        {"train.py": SOURCE}, [(base, outcome("baseline", 1.0)), (struck, outcome("invalid", None))], sources
    )
    scene = Archive().scene(asked)

    assert set(scene.points) == {base.oid}
    assert len(scene.known) == 2
