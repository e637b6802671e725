"""Whether what was confirmed also holds on a second hidden split, which nothing is ever chosen by. Pure.

A search looks at its held-out data once a trial and keeps what looked good there, so its best may have learnt that data
and not the task. Where `seeds.holdout` asks for it, the baseline and each trial whose claim was confirmed run so many
more times and are scored on the holdout instead. Such a run stands in its trial's outcome and enters no score, gate,
spread, verdict or claim; no agent is shown it.

The gap is how much worse a trial is on the holdout than on the held-out data, in the metric's units, whichever
direction is better. The splits are different data, so the baseline has a gap too; what tells is how much a trial's is
larger, which is the part of its gain that the holdout does not show. Its standard error is that of the seeds alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from gitresearch.looks import measured
from gitresearch.noise import Spread, pooled, t_tail
from gitresearch.outcome import HOLDOUT, Outcome, Run, mean
from gitresearch.study import Study

FAR = 3.0  # standard errors; with 5 seeds of each and 2 on the holdout, chance alone goes so far once in 150 times
PREFIX = "holdout_"  # how all that stands of it in a note's arithmetic begins
BASE = PREFIX + "base_"  # of that, what is the baseline's
QUERY = PREFIX + "query"


@dataclass(frozen=True)
class Side:
    """A trial on both splits: its mean on the holdout over n runs, how much worse that is than on the held-out data
    over so many seeds, and the spread within both groups with its degrees of freedom."""

    score: float
    n: int
    gap: float
    seeds: int
    sd: float
    df: int

    def facts(self) -> dict[str, Any]:
        """As it stands in the note of a trial that is compared with it."""
        return {BASE + one.name: getattr(self, one.name) for one in fields(self)}


def asked(outcome: Outcome) -> bool:
    """Whether a trial may be scored on the holdout: the baseline, and what a claim confirmed."""
    return outcome.summary.status == "baseline" or outcome.decision.get("claim_verdict") == "confirmed"


def lacking(study: Study, outcome: Outcome) -> int:
    """How many runs on the holdout a trial still lacks. One that failed was made; one that we ended was not."""
    made = sum(run.purpose == HOLDOUT and run.status != "harness_abort" for run in outcome.runs)
    return max(0, study.seeds.holdout - made) if asked(outcome) else 0


def side(study: Study, runs: Sequence[Run], decided: Mapping[str, Any] = {}) -> Side | None:
    """A trial on both splits: the baseline by its seeds, another by those that its claim was decided on (`decided` is
    its arithmetic). None where it was not scored on both. Runs beyond the study's number don't count."""
    seen, hidden = _groups(study, runs, decided)
    if not seen or not hidden:
        return None
    gap, spread = study.objective.gain(mean(seen), mean(hidden)), pooled([seen, hidden])
    return Side(mean(hidden), len(hidden), gap, len(seen), spread.sd, spread.df)


def _groups(study: Study, runs: Sequence[Run], decided: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    metric, told = study.objective.metric, decided.get("claim_n", 0)
    claimed = max(0, told) if type(told) is int else 0
    seen = measured(runs, metric, "baseline") or measured(runs, metric, "confirm")[:claimed]
    return seen, measured(runs, metric, HOLDOUT)[: study.seeds.holdout]


def facts(
    study: Study, runs: Sequence[Run], decided: Mapping[str, Any] = {}, base: Side | None = None, query: int = 0
) -> dict[str, Any]:
    """What the runs on the holdout say, for the note's arithmetic; nothing where there are none.

    `base` is the baseline's side, None of the baseline itself, and `query` the trial's place among those that were ever
    scored on it. The verdict is `grown` where the gap is more than 3 standard errors larger than the baseline's,
    `steady` where it is not, `failed` where a run failed: that costs a trial nothing else, and might have been meant.
    """
    ended = next((run.status for run in runs if run.purpose == HOLDOUT and run.status not in _UNSAID), "")
    found: dict[str, Any] = {"ended": ended} if ended else {}
    verdict = "failed" if ended else ""
    if mine := side(study, runs, decided):
        found |= {"score": mine.score, "n": mine.n, "gap": mine.gap, "seeds": mine.seeds}
        found |= {"query": query} if query else {}
        if base is not None:
            grown = _growth(study, mine, base, _groups(study, runs, decided))
            verdict = verdict or _verdict(grown)
            found |= grown
    found |= {"verdict": verdict} if verdict else {}
    told = base.facts() if base is not None and mine else {}
    return {PREFIX + name: value for name, value in found.items()} | told


_UNSAID = ("ok", "harness_abort")


def _growth(study: Study, mine: Side, base: Side, groups: Sequence[Sequence[float]]) -> dict[str, Any]:
    """How much larger a trial's gap is than the baseline's, by the spread pooled within all four groups of runs."""
    spread = Spread(base.sd, base.df)
    for group in groups:
        spread = spread.joined(group)
    growth = mine.gap - base.gap
    error = spread.sd * math.sqrt(1 / mine.n + 1 / mine.seeds + 1 / base.n + 1 / base.seeds)
    told = {"gain": study.objective.gain(mine.score, base.score), "growth": growth, "se": error, "df": spread.df}
    return told | ({"p": t_tail(growth / error, spread.df)} if error else {})


def _verdict(grown: Mapping[str, Any]) -> str:
    """Nothing where the seeds have no spread: no two splits give every recipe the same gap to the last digit."""
    if not grown["se"]:
        return ""
    return "grown" if grown["growth"] > FAR * grown["se"] else "steady"


def without(outcome: Outcome) -> Outcome:
    """An outcome as agents may see it. Its seconds are those of all runs: they tell nothing of a score."""
    runs = tuple(run for run in outcome.runs if run.purpose != HOLDOUT)
    decided = {name: value for name, value in outcome.decision.items() if not name.startswith(PREFIX)}
    return replace(outcome, runs=runs, decision=decided)


def facts_of(outcome: Outcome) -> dict[str, Any]:
    """What an outcome tells of the holdout, by names without their prefix."""
    told = outcome.decision.items()
    return {name.removeprefix(PREFIX): value for name, value in told if name.startswith(PREFIX)}


def warns(outcome: Outcome) -> bool:
    """Whether a person should be told."""
    return facts_of(outcome).get("verdict") in ("grown", "failed")


def told(outcome: Outcome) -> str:
    """The facts in words; empty where there are none. They may be any note's, so nothing is taken for true."""
    known = facts_of(outcome)
    fact = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in known.items()}
    begins = {"grown": "the gap to the holdout has grown", "steady": "the gap to the holdout is steady"}
    begins["failed"] = f"scored on the holdout it ended in {fact.get('ended', 'a failure')}"
    words = []
    if "score" in fact:
        words.append(f"{fact['score']} there (n={fact.get('n')}), {_apart(known.get('gap'))} than on the held-out data")
    if "growth" in fact:
        sure = f", p = {fact['p']}" if "p" in fact else ""
        words.append(f"the baseline {_apart(known.get('base_gap'))}")
        words.append(f"grown by {fact['growth']}, standard error {fact.get('se')}{sure}")
        words.append(f"it gains {fact.get('gain')} there")
    words += [f"query {fact['query']} of it"] if "query" in fact else []
    begin = begins.get(fact.get("verdict", ""), "the holdout") if fact else ""
    return f"{begin}: {'; '.join(words)}" if words else begin


def _apart(gap: object) -> str:
    """A gap as people say it."""
    return f"{abs(gap):.4g} {'better' if gap < 0 else 'worse'}" if isinstance(gap, float) else str(gap)
