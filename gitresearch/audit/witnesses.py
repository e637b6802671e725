"""A second look, looked at: a witness's word follows from its runs, and neither it nor a revocation changes anything
else. What an evaluator said of a trial is read version by version."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from gitresearch import decision
from gitresearch.audit.outcomes import Across, Said, Wrong, number, same, whole
from gitresearch.decision import REPRODUCED, Claimed
from gitresearch.noise import Spread
from gitresearch.outcome import FAILED, REPRODUCE, Outcome, Summary, firsthand, is_revoked, is_witness
from gitresearch.study import Study
from gitresearch.trial import Trial
from gitresearch.witness import facts_of, revoked

BESIDE = ("of", "sandbox", "why")  # what a witness tells beside its arithmetic


def check(study: Study, trial: Trial, said: Sequence[Outcome]) -> Wrong:
    """What does not follow in what an evaluator said of a trial: claim and finding."""
    yield from _first(said[0])
    for before, after in pairwise(said):
        yield from _step(before, after)
    last = said[-1]
    if not is_revoked(last):
        yield from _status(trial, last)
        yield from _trust(last)
        yield from _agreement(study, last)


def _first(outcome: Outcome) -> Wrong:
    """What an evaluator says of a trial first is a verdict or a witness's word, and nothing that looks back on one."""
    if is_revoked(outcome):
        yield "taken back as it was", "nothing was said before"
    if not is_witness(outcome) and len(firsthand(outcome.runs)) < len(outcome.runs):
        yield "a witness comes after the outcome", "its runs are among those that the first verdict is about"


def _step(before: Outcome, after: Outcome) -> Wrong:
    """From one version to the next."""
    if is_revoked(before):
        if after != revoked(replace(before, runs=after.runs), before.summary.reason):
            yield "what is taken back stays so", f"it says {after.summary.status} afterwards"
    elif is_revoked(after):
        if after != revoked(before, after.summary.reason) or not after.summary.reason:
            yield "taken back as it was", "more than its status changed, or no reason is given"
    elif _looked_again(before, after) and not is_witness(after) and _bare(before) != _bare(after):
        yield "a witness changes nothing else", f"it says {after.summary.status} afterwards"


def _looked_again(before: Outcome, after: Outcome) -> bool:
    return any(run.purpose == REPRODUCE for run in after.runs[len(before.runs) :])


def _bare(outcome: Outcome) -> Outcome:
    """An outcome without what a witness adds to it."""
    facts = {name: value for name, value in outcome.decision.items() if not name.startswith(REPRODUCED)}
    runs = tuple(firsthand(outcome.runs))
    return replace(outcome, runs=runs, decision=facts)


def _status(trial: Trial, outcome: Outcome) -> Wrong:
    """A witness makes no keep."""
    if not is_witness(outcome):
        return
    told, made = outcome.summary, decision.witnessed(trial.operator, outcome.runs)
    if told.status != made or told.confirmed:
        yield "a status that its runs give", f"it says {told.status}, and a witness's runs give {made}"


def _trust(outcome: Outcome) -> Wrong:
    if outcome.environment.get("trust") == "reproduced" and not is_witness(outcome):
        yield "trust that was earned", "only a second evaluator's runs reproduce"


def _agreement(study: Study, outcome: Outcome) -> Wrong:
    """Whether it agrees, once more from the runs and from what it says was claimed."""
    told = facts_of(outcome)
    score = number(told["claim"]) if "claim" in told else None
    claimed = Claimed(str(told.get("status", "")), score, whole(told.get("claim_n")))
    spread = Spread(number(told.get("spread")), whole(told.get("df")))
    wanted = decision.reproduced(study.objective.metric, claimed, outcome.runs, spread)
    for name in sorted(wanted.keys() | (told.keys() - set(BESIDE))):
        if not same(told.get(name), wanted.get(name)):
            yield "a witness by its own arithmetic", f"{name} is {told.get(name)}, not {wanted.get(name)}"


def across(chains: Sequence[Said]) -> Across:
    """A witness repeats what was measured; one that measured nothing itself comes after somebody who did."""
    for said in chains:
        others = [other for other in chains if other is not said]
        for oid, one in ((oid, one) for oid, versions in said.items() for one in versions):
            before = _measured(others, oid, one.summary.at) if is_witness(one) else _measured(chains, oid)
            if _alone(one, before):
                yield oid, "a witness comes after the outcome", "nobody else measured it before"
            elif _unheard(facts_of(one), before):
                yield oid, "a witness of what was measured", "nobody said of it what it claims to repeat"


def _alone(outcome: Outcome, before: Sequence[Summary]) -> bool:
    return is_witness(outcome) and not before


def _unheard(facts: Mapping[str, Any], before: Sequence[Summary]) -> bool:
    return "verdict" in facts and not any(_repeats(facts, head) for head in before)


def _measured(chains: Sequence[Said], oid: str, until: str = "~") -> list[Summary]:
    """What evaluators that measured a trial said of it before a time."""
    found = (one for said in chains for one in said.get(oid, ()) if not is_witness(one))
    return [one.summary for one in found if one.summary.at < until]


def _repeats(facts: Mapping[str, Any], head: Summary) -> bool:
    """Whether a witness looked at an outcome with this head."""
    if facts.get("status") != head.status:
        return False
    if head.status in FAILED or head.score is None:
        return "claim" not in facts
    return same(facts.get("claim"), head.score) and facts.get("claim_n") == head.n
