"""What the numbers allow us to say: screening, confirmation, gates. Pure arithmetic, no effects.

Rule `two-tier` (design section 4): be greedy about the working head and strict about claims.

* **Screen.** One run of the trial against the head's score. A trial that looks better runs again on fresh seeds, and is
  kept only if the mean of those beats the head. The run that got it noticed is lucky by selection and enters no score.
* **Claim.** Every few keeps and at the end, the head runs on fresh seeds and is compared with the last confirmed trial
  by a one-sided t test with a pooled variance. Claim number j gets α/(j(j+1)), which sums to α over the study however
  many claims are made, so a study on pure noise ends in a false claim with probability at most α.

* **Witness.** A trial that runs again on fresh seeds agrees with its outcome where a two-sided t test at 1 % sees no
  difference of the means. It changes no status: who measures once more may doubt a score and can't give one.

Rule `strict-improvement` is the published system's: any single run that is better is a keep, and is believed.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gitresearch.outcome import FAILED, REPRODUCE, Outcome, Run, Summary, firsthand, mean, signed, stdev
from gitresearch.study import Gate, Study
from gitresearch.tails import t_above, t_tail
from gitresearch.text import plural

FRESH = ("head", "confirm")
DOUBT = 0.01  # the level at which a witness's runs differ from what they repeat: one honest trial in a hundred does
REPRODUCED = "reproduced_"  # how a witness's facts begin in a note's arithmetic


@dataclass(frozen=True)
class Reference:
    """What a trial is compared with: its name for people (`head 1a2b3c4d`), its score and over how many runs."""

    name: str
    score: float
    n: int


@dataclass(frozen=True)
class Verdict:
    """A status with its reason in one sentence and the arithmetic, as it stands in the note."""

    status: str
    reason: str = ""
    label: str = ""
    confirmed: bool = False
    arithmetic: Mapping[str, Any] = field(default_factory=dict)


def missed_gates(gates: Iterable[Gate], runs: Sequence[Run]) -> list[str]:
    """One sentence for each gate that the mean over the runs misses, or whose metric was not measured."""
    missed = []
    for gate in gates:
        value = _at_gate(gate, runs)
        if value is None:
            missed.append(f"{gate.metric} was not measured, and the study asks for {gate}")
        elif not gate.passes(value):
            missed.append(f"{gate.metric} is {value:.5g}, and the study asks for {gate}")
    return missed


def _at_gate(gate: Gate, runs: Sequence[Run]) -> float | None:
    measured = [run.metrics[gate.metric] for run in runs if gate.metric in run.metrics]
    return mean(measured) if measured else None


def counting(runs: Sequence[Run]) -> Sequence[Run]:
    """The runs that the verdict counts: those on fresh seeds, where there are any."""
    return [run for run in runs if run.purpose in FRESH] or firsthand(runs)


def shortfall(study: Study, outcome: Outcome) -> float:
    """By what share of a gate, or of the cap on bytes, a blocked trial missed it: the worst one. Infinite where that
    was not measured: a run that overran its budget was stopped there."""
    cap, size = study.budget.artefact_bytes, max((run.artefact_bytes for run in firsthand(outcome.runs)), default=0)
    found = [(size - cap) / cap] if cap and size > cap else []
    for gate in study.gates:
        value = _at_gate(gate, counting(outcome.runs))
        if value is not None and not gate.passes(value):
            found.append(abs(value - gate.limit) / (abs(gate.limit) or 1.0))
    return max(found, default=math.inf)


def promising(study: Study, screening: Sequence[Run], reference: Reference) -> bool:
    """Whether the screening runs earn a trial its fresh seeds."""
    values = [run.metrics[study.objective.metric] for run in screening]
    return not missed_gates(study.gates, screening) and study.objective.better(mean(values), reference.score)


def purposes(study: Study, operator: str, done: Sequence[Run], reference: Reference) -> Iterator[str]:
    """The runs an assessment makes, decided as results come into `done`: screening, then fresh seeds if those earn
    them. A replicate is nobody's claim: all its runs count."""
    yield from ["screen"] * study.seeds.screen
    if operator == "replicate" or study.decision.rule != "two-tier":
        return
    if promising(study, [run for run in done if run.purpose == "screen"], reference):
        yield from ["head"] * study.seeds.head


def verdict(study: Study, runs: Sequence[Run], reference: Reference) -> Verdict:
    """Keep, discard or disqualify a trial that ran to the end."""
    metric, objective = study.objective.metric, study.objective
    counted = counting(runs)
    score = mean([run.metrics[metric] for run in counted])
    arithmetic: dict[str, Any] = {
        "rule": f"{study.decision.rule}/1",
        "against": reference.name,
        "reference": reference.score,
        "reference_n": reference.n,
        "score": score,
        "score_n": len(counted),
        "gain": objective.gain(score, reference.score),
    }
    if missed := missed_gates(study.gates, counted):
        return Verdict("disqualified", missed[0], "gate", arithmetic=arithmetic)
    if objective.better(score, reference.score):
        strict = study.decision.rule == "strict-improvement"
        return Verdict("keep", "", confirmed=strict, arithmetic=arithmetic)
    reason = ""
    if len(counted) < len(runs) and promising(study, [run for run in runs if run.purpose == "screen"], reference):
        reason = f"looked better once, {plural(len(counted), 'fresh seed')} did not bear it out"
    return Verdict("discard", reason, arithmetic=arithmetic)


def replicated(study: Study, found: Verdict, runs: Sequence[Run], original: Reference | None) -> Verdict:
    """The verdict on a replicate: measured, told against what it repeats (None: that has no score), never a keep."""
    if found.status not in ("keep", "discard"):
        return found
    score = mean([run.metrics[study.objective.metric] for run in runs])
    reason = f"{score:.6g} (n={len(runs)})"
    if original is not None:
        change = signed(score - original.score)
        reason += f" against {original.score:.6g} (n={original.n}) of {original.name}, {change}"
    return replace(found, status="discard", reason=reason, label="replicate", confirmed=False)


@dataclass(frozen=True)
class Spread:
    """A pooled standard deviation over groups of seeds, with its degrees of freedom."""

    sd: float
    df: int


def pooled(groups: Iterable[Sequence[float]]) -> Spread:
    """Pool the variance within groups: s² = ΣSS / Σ(n−1). sd 0 with df 0 where no group has two values."""
    squares, df = 0.0, 0
    for group in groups:
        if len(group) > 1:
            centre = mean(group)
            squares += math.fsum((value - centre) ** 2 for value in group)
            df += len(group) - 1
    return Spread(math.sqrt(squares / df) if df else 0.0, df)


def values(outcome: Outcome, *purposes: str) -> list[float]:
    """The study metric's values over the runs with these purposes."""
    metric = outcome.summary.metric
    return [run.metrics[metric] for run in outcome.runs if run.purpose in purposes and metric in run.metrics]


def claim(study: Study, head: Outcome, rival: Outcome, others: Iterable[Outcome], number: int) -> Verdict:
    """Test the head's confirmation runs against the last confirmed trial (or the baseline); claims count from 1.

    Confirmed where T > t(1−α_j, df). Below zero the head is demoted; in between nothing is claimed.
    """
    mine = values(head, "confirm")
    theirs = values(rival, "confirm") or values(rival, "baseline")
    spread = pooled([mine, theirs, *(values(other, *FRESH) for other in others)])
    gain = study.objective.gain(mean(mine), mean(theirs))
    p, alpha, found = tested(study, number, gain, spread, (len(mine), len(theirs)))
    rival_name = "baseline" if rival.summary.status == "baseline" else "best"
    arithmetic: dict[str, Any] = {
        "claim": number,
        "claim_gain": gain,
        "claim_rival": mean(theirs),
        "claim_rival_n": len(theirs),
        "claim_n": len(mine),
        "claim_sd": spread.sd,
        "claim_df": spread.df,
        "claim_p": p,
        "claim_alpha": alpha,
        "claim_verdict": found,
    }
    told = f"{signed(mean(mine) - mean(theirs))} vs {rival_name} on {len(mine)} fresh seeds, p = {p:.2g}"
    if found == "rolled back":
        return Verdict("discard", f"rolled back: {told}", "unconfirmed", arithmetic=arithmetic)
    asked = f", asked {alpha:.2g}" if found == "undecided" else ""
    return Verdict("keep", f"{found}: {told}{asked}", confirmed=found == "confirmed", arithmetic=arithmetic)


def tested(study: Study, number: int, gain: float, spread: Spread, sizes: tuple[int, int]) -> tuple[float, float, str]:
    """A claim's p, its share of alpha, and what they come to. `sizes` are the seeds of both sides."""
    error = spread.sd * math.sqrt(1 / sizes[0] + 1 / sizes[1])
    alpha = share(study, number)
    p = t_tail(gain / error, spread.df) if error > 0 else (0.0 if gain > 0 else 1.0)
    return p, alpha, "confirmed" if p < alpha else "rolled back" if gain <= 0 else "undecided"


@dataclass(frozen=True)
class Claimed:
    """What an outcome says of a trial, for a witness to compare with."""

    status: str
    score: float | None
    n: int

    @classmethod
    def of(cls, head: Summary) -> "Claimed":
        return cls(head.status, head.score, head.n)


def reproduced(metric: str, claimed: Claimed, runs: Sequence[Run], spread: Spread) -> dict[str, Any]:
    """What a witness's runs say of an outcome, as facts for the note; none where all were ended by our own fault.

    `agrees`, `differs`, `failed` (a run of what has a score did) or `no spread known`. A failure agrees with one that
    ends in the same status.
    """
    done = [run for run in runs if run.purpose == REPRODUCE and run.status != "harness_abort"]
    if not done:
        return {}
    ended = [run.status for run in done if run.status != "ok"]
    facts: dict[str, Any] = {"status": claimed.status, "n": len(done), "ended": ended[0] if ended else "ok"}
    if claimed.score is None or claimed.status in FAILED:
        facts["verdict"] = "agrees" if claimed.status in ended else "differs"
    else:
        facts |= {"claim": claimed.score, "claim_n": claimed.n, "verdict": "failed"}
        if not ended:
            found = [run.metrics[metric] for run in done if metric in run.metrics]
            facts |= _compared(found, claimed.score, max(1, claimed.n), spread)
    return facts


def _compared(found: Sequence[float], claim: float, n: int, spread: Spread) -> dict[str, Any]:
    """The two-sided test of a witness's mean against a score over n runs."""
    if not found:
        return {}
    score = mean(found)
    facts = {"score": score, "sd": stdev(found), "spread": spread.sd, "df": spread.df}
    if not spread.df:
        return facts | {"verdict": "no spread known"}
    error = spread.sd * math.sqrt(1 / len(found) + 1 / n)
    same = math.isclose(score, claim, rel_tol=1e-9)
    p = 1.0 if same else 2 * t_tail(abs(score - claim) / error, spread.df) if error > 0 else 0.0
    return facts | {"p": p, "verdict": "differs" if p < DOUBT else "agrees"}


def witnessed(operator: str, runs: Sequence[Run]) -> str:
    """The status of an outcome that consists of a witness's runs: how one failed, or that it was measured; no keep."""
    ended = [run.status for run in runs if run.status != "harness_abort"]
    failed = [status for status in ended if status != "ok"]
    if failed or not ended:
        return failed[0] if failed else "harness_abort"
    return "baseline" if operator == "baseline" else "discard"


def detectable(spread: Spread, n: int, k: int, alpha: float, power: float = 0.8) -> float:
    """The smallest effect that a test of n seeds against k sees with this power at one-sided alpha, in the metric's
    units: (t_α + t_β)·s·√(1/n + 1/k). The two t in place of the noncentral one err by a few per cent."""
    both = t_above(alpha, spread.df) + t_above(1 - power, spread.df)
    return both * spread.sd * math.sqrt(1 / n + 1 / k) if spread.sd else 0.0


def share(study: Study, number: int) -> float:
    """The share of alpha that claim j may spend: α/(j(j+1)), which sums to α."""
    return study.decision.alpha / (number * (number + 1))
