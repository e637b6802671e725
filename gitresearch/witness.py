"""A second look at an outcome: another measurement beside it, or its evaluator taking it back. Pure: values in and out.

Neither changes what was found before. A witness's runs enter no score, verdict, claim or estimate of noise: who
measured the trial adds them to its own outcome; anybody else says so in one of its own, which comes second and makes no
keep. An outcome that is taken back stays as it was, with status `invalid` and the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gitresearch import decision
from gitresearch.decision import REPRODUCED, Claimed
from gitresearch.errors import GitResearchError
from gitresearch.noise import Spread, pooled
from gitresearch.outcome import (
    EARLY_STOP,
    MEASURED,
    REPRODUCE,
    REVOKED,
    WITNESS,
    Outcome,
    Run,
    after,
    is_revoked,
    is_witness,
    summarise,
)
from gitresearch.text import one_line
from gitresearch.trial import Trial

if TYPE_CHECKING:
    from gitresearch.evaluate import RunResult  # which who only shows a witness's word need not pay for

Said = Mapping[str, Outcome]  # of one trial: what each evaluator found, the one that counts first


def claimed(trial: Trial, said: Said, me: str) -> tuple[str, Outcome]:
    """Whose outcome a witness looks at again: this evaluator's own, else the one that counts. GitResearchError where
    nothing is claimed."""
    if me in said and is_revoked(said[me]):
        hint = f"gitresearch propose --operator replicate --parent {trial.short}"
        raise GitResearchError(f"this clone took its outcome of {trial.short} back", hint)
    who = me if me in said and not is_witness(said[me]) else next(iter(said), "")
    if not who or is_witness(said[who]) or said[who].summary.status == "harness_abort" or _guessed(said[who]):
        raise GitResearchError(f"{trial.short} has no outcome to reproduce", f"gitresearch evaluate {trial.short}")
    if said[who].summary.status == "invalid":
        raise GitResearchError(f"the outcome of {trial.short} is invalid and claims nothing", "gitresearch log")
    return who, said[who]


def _guessed(outcome: Outcome) -> bool:
    """Whether the trial was stopped because of what others' runs foretell, which its own end may well refute."""
    last = outcome.runs[-1:]
    return outcome.summary.status == EARLY_STOP or any(run.foretold and run.status != "ok" for run in last)


def added(trial: Trial, said: Said, me: str, result: "RunResult", spread: Spread) -> Outcome:
    """What this evaluator says of a trial with one more run of a witness; `spread` is the study's noise."""
    mine = said.get(me)
    runs = (*(mine.runs if mine else ()), result.run)
    if mine and is_revoked(mine):
        return revoked(replace(mine, runs=runs), mine.summary.reason)
    who, first = claimed(trial, said, me)
    facts = decision.reproduced(first.summary.metric, Claimed.of(first.summary), runs, spread)
    if facts:
        facts |= {"of": who, "sandbox": str(result.environment.get("sandbox", ""))}
    if result.failure:
        facts["why"] = one_line(f"{result.failure.label} in {result.failure.phase}", 100)
    if who == me:
        return _with_facts(replace(first, runs=runs), facts)
    return _with_facts(_second(trial, first, mine, result), facts)


def _second(trial: Trial, first: Outcome, mine: Outcome | None, result: "RunResult") -> Outcome:
    """The outcome of an evaluator that did not measure the trial first, without its facts."""
    runs = (*(mine.runs if mine else ()), result.run)
    status = decision.witnessed(trial.operator, runs)
    earlier = mine.failure if mine and mine.summary.status == status else None
    failure = None if status in MEASURED else earlier or result.failure
    at = mine.summary.at if mine else after(first.summary.at)
    label = failure.label if failure else WITNESS
    head = summarise(status, first.summary.metric, runs, at, label=label)
    environment = {**result.environment, "trust": "reproduced"}
    return Outcome(head, runs, failure, environment=environment, binding=result.binding or first.binding)


def _with_facts(outcome: Outcome, facts: Mapping[str, Any]) -> Outcome:
    """An outcome with a witness's facts in the place of earlier ones; of a witness's own they are the reason too."""
    decided = {name: value for name, value in outcome.decision.items() if not name.startswith(REPRODUCED)}
    decided |= {REPRODUCED + name: value for name, value in facts.items()}
    head = outcome.summary._replace(reason=one_line(told(facts))) if is_witness(outcome) else outcome.summary
    return replace(outcome, summary=head, decision=decided)


def facts_of(outcome: Outcome) -> dict[str, Any]:
    """What an outcome tells of a witness's runs, by names without their prefix."""
    facts = outcome.decision.items()
    return {name.removeprefix(REPRODUCED): value for name, value in facts if name.startswith(REPRODUCED)}


def told(facts: Mapping[str, Any]) -> str:
    """Those facts in words; empty where there are none. They may be any note's, so nothing is taken for true."""
    fact = {name: _shown(value) for name, value in facts.items()}
    if "verdict" not in fact:
        return ""
    claim = " ".join(fact[name] for name in ("status", "claim") if name in fact)
    found = fact.get("score") or fact.get("ended", "")
    seeds = f" on {fact['claim_n']}" if "claim_n" in fact else ""
    p = f", p = {fact['p']}" if "p" in fact else ""
    fresh = "1 fresh seed" if fact.get("n") == "1" else f"{fact.get('n', '?')} fresh seeds"
    return f"{fact['verdict']}: {found} on {fresh}, claimed {claim}{seeds}{p}"


def _shown(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def onto(mine: Outcome | None, outcome: Outcome) -> Outcome:
    """An outcome as a further version of what this evaluator has on record: runs that a witness made, or that another
    process recorded meanwhile, stay; and what was taken back stays so."""
    if mine is None:
        return outcome
    runs = (*mine.runs, *(run for run in outcome.runs if run not in mine.runs))
    if is_revoked(mine):
        return revoked(replace(mine, runs=runs), mine.summary.reason)
    return _summed(_with_facts(replace(outcome, runs=runs), facts_of(mine)))


def revoked(outcome: Outcome, reason: str) -> Outcome:
    """An outcome that its evaluator takes back: nothing else of it changes."""
    head = outcome.summary
    return replace(
        outcome, summary=summarise("invalid", head.metric, outcome.runs, head.at, label=REVOKED, reason=reason)
    )


def noise(counted: Sequence[Outcome], mine: Sequence[Run], metric: str) -> Spread:
    """The spread that a witness is judged by: of the baseline, the keeps, and its own runs."""
    groups = [decision.values(one, "baseline", *decision.FRESH) for one in counted]
    own = [run.metrics[metric] for run in mine if run.purpose == REPRODUCE and metric in run.metrics]
    return pooled([*groups, own])


def _summed(outcome: Outcome) -> Outcome:
    """With the seconds of all the runs that it stands on, whoever recorded them."""
    head = outcome.summary
    seconds = summarise(head.status, head.metric, outcome.runs, head.at).seconds
    return replace(outcome, summary=head._replace(seconds=seconds))
