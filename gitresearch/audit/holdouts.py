"""What is said of the holdout: made of what was confirmed alone, and following from its runs and the baseline's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from gitresearch import holdout
from gitresearch.audit.outcomes import Across, Said, Wrong, number, same, whole
from gitresearch.holdout import BASE, QUERY, Side
from gitresearch.outcome import HOLDOUT, Outcome, is_revoked
from gitresearch.study import Study

FOLLOWS = "a holdout that its runs give"


def check(study: Study, outcome: Outcome) -> Wrong:
    """What does not follow in one outcome by itself: claim and finding. One that was taken back keeps its words."""
    if any(run.purpose == HOLDOUT for run in outcome.runs) and not holdout.asked(outcome):
        yield "a holdout for what was confirmed", "it was scored on the holdout, and no claim confirmed it"
    if is_revoked(outcome):
        return
    told = {name: value for name, value in outcome.decision.items() if name.startswith(holdout.PREFIX)}
    first = outcome.summary.status == "baseline"
    query = 0 if first else max(1, whole(told.get(QUERY)))
    made = holdout.facts(study, outcome.runs, outcome.decision, None if first else _base(told), query)
    for name in sorted(made.keys() | told.keys()):
        if not same(told.get(name), made.get(name)):
            yield FOLLOWS, f"{name} is {told.get(name)}, not {made.get(name)}"


def _base(told: Mapping[str, Any]) -> Side | None:
    """The baseline that a trial says it was compared with."""
    if not any(name.startswith(BASE) for name in told):
        return None
    score, gap, sd = (number(told.get(BASE + name)) for name in ("score", "gap", "sd"))
    n, seeds, df = (whole(told.get(BASE + name)) for name in ("n", "seeds", "df"))
    return Side(score, max(1, n), gap, max(1, seeds), sd, max(0, df))


def across(study: Study, chains: Sequence[Said]) -> Across:
    """What does not follow between outcomes: the baseline that a trial is compared with, and which query it was."""
    had = list(_baselines(study, chains))
    for said in chains:
        first: dict[int, str] = {}
        for oid, facts in _scored(said):
            base = _base(facts)
            if (base or had) and not any(_alike(base, one) for one in had):
                told = "none" if base is None else f"a gap of {base.gap:.6g}, which the baseline never had"
                yield oid, "a holdout that the baseline had too", f"it is compared with {told}"
            query = whole(facts.get(QUERY))
            if first.setdefault(query, oid) != oid:
                yield oid, "each query of the holdout counts", f"query {query} is {first[query][:8]}'s too"


def _baselines(study: Study, chains: Sequence[Said]) -> Iterator[Side]:
    """The baseline on both splits, as it stood at any time."""
    for one in (one for said in chains for versions in said.values() for one in versions):
        if one.summary.status == "baseline" and (found := holdout.side(study, one.runs)):
            yield found


def _scored(said: Said) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What stands of each trial that was scored on the holdout."""
    for oid, versions in said.items():
        last = versions[-1]
        if last.summary.status != "baseline" and holdout.PREFIX + "score" in last.decision:
            yield oid, last.decision


def _alike(one: Side | None, other: Side) -> bool:
    return one is not None and all(same(getattr(one, at.name), getattr(other, at.name)) for at in fields(Side))
