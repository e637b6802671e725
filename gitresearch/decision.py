"""What the numbers allow us to say: screening, confirmation, gates. Pure arithmetic, no effects.

Rule `two-tier` (design section 4): be greedy about the working head and strict about claims.

* **Screen.** One run of the trial against the head's score. A trial that looks better runs again on fresh seeds, and is
  kept only if the mean of those beats the head. The run that got it noticed is lucky by selection and enters no score.
* **Gates.** A trial is kept only if the bound of each gate's metric passes, not the mean alone. While the mean passes
  and the bound doesn't, more fresh seeds run, up to `seeds.gate`.
* **Looks.** After each seed there is a look, which ends what can no longer win (`looks`). A keep is never made early: a
  score that was allowed to stop at its best would be a lucky one.
* **Claim.** Every few keeps and at the end, the head runs on fresh seeds and is compared with the last confirmed trial
  by a one-sided t test with a pooled variance. Claim number j gets α/(j(j+1)), which sums to α over the study however
  many claims are made, so a study on pure noise ends in a false claim with probability at most α. Seeds may end early
  for a head that is worse, which takes nothing from that bound. On those seeds alone it must pass the gates, too.
  With `interleave` the rival runs again, in turn with the head: what the machine does, it does to both.
* **Witness.** A trial that runs again on fresh seeds agrees with its outcome where a two-sided t test at 1 % sees no
  difference of the means. It changes no status: who measures once more may doubt a score and can't give one.

Rule `strict-improvement` is the published system's: any single run that is better is a keep, and is believed. Its gates
count the mean, and all its seeds run.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gitresearch.looks import (
    UNKNOWN,
    Noise,
    at_gates,
    below,
    claimed_gates,
    gate_facts,
    gate_level,
    gated,
    look_facts,
    measured,
    stop_level,
)
from gitresearch.noise import Spread, pooled, t_above, t_tail
from gitresearch.outcome import (
    FAILED,
    REPRODUCE,
    RIVAL,
    UNCONFIRMED,
    Outcome,
    Run,
    Summary,
    firsthand,
    mean,
    own,
    signed,
    stdev,
)
from gitresearch.study import Gate, Study
from gitresearch.text import plural

FRESH = ("head", "confirm")
DOUBT = 0.01  # the level at which a witness's runs differ from what they repeat: one honest trial in a hundred does
REPRODUCED = "reproduced_"  # how a witness's facts begin in a note's arithmetic


@dataclass(frozen=True)
class Reference:
    """What a trial is compared with: its name for people (`head 1a2b3c4d`), its score and over how many runs; and the
    spread over the baseline's seeds of each metric that is decided by."""

    name: str
    score: float
    n: int
    noise: Noise = field(default_factory=dict)


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
    return [str(at) for at in at_gates(gates, runs, {}, 0.5) if at.missed]


def counting(runs: Sequence[Run]) -> Sequence[Run]:
    """The runs that the verdict counts: those on fresh seeds, where there are any."""
    return [run for run in runs if run.purpose in FRESH] or firsthand(runs)


def shortfall(study: Study, outcome: Outcome) -> float:
    """By what share of a gate, or of the cap on bytes, a blocked trial missed it: the worst one, by the mean, or where
    that passes by its bound. Infinite where that was not measured: a run that overran its budget was stopped there."""
    cap, size = study.budget.artefact_bytes, max((run.artefact_bytes for run in own(outcome.runs)), default=0)
    found = [(size - cap) / cap] if cap and size > cap else []
    for number, at in enumerate(at_gates(study.gates, counting(outcome.runs), {}, 0.5), 1):
        bound = outcome.decision.get(f"gate_{number}_bound")
        value = at.value if at.missed or not isinstance(bound, float) else bound
        if value is not None and not at.gate.passes(value):
            found.append(abs(value - at.gate.limit) / (abs(at.gate.limit) or 1.0))
    return max(found, default=math.inf)


def calibrated(study: Study, runs: Sequence[Run]) -> Verdict:
    """The verdict on the baseline: it is what it is; where it misses a gate, or is not surely within, that is said."""
    seeds = [run for run in runs if run.purpose == "baseline"]
    for at in at_gates(study.gates, seeds, {}, study.decision.gate_alpha):
        if at.missed:
            return Verdict("baseline", f"the recipe itself misses a gate: {at}")
        if at.spread.df and not at.sure and study.decision.rule == "two-tier":
            return Verdict("baseline", f"the recipe itself is close to a gate: {at}")
    return Verdict("baseline")


def promising(study: Study, screening: Sequence[Run], reference: Reference) -> bool:
    """Whether the screening runs earn a trial its fresh seeds."""
    values = [run.metrics[study.objective.metric] for run in screening]
    return not missed_gates(study.gates, screening) and study.objective.better(mean(values), reference.score)


def purposes(study: Study, operator: str, done: Sequence[Run], reference: Reference) -> Iterator[str]:
    """The runs an assessment makes, decided as results come into `done`: screening, then fresh seeds if those earn
    them, each until a look says that it is decided. A replicate is nobody's claim: all its runs count."""
    fixed = operator == "replicate" or study.decision.rule != "two-tier"
    for made in range(study.seeds.screen):
        if made and not fixed and _screened(study, _first(done, "screen", made), reference):
            break
        yield "screen"
    if fixed or not promising(study, [run for run in done if run.purpose == "screen"], reference):
        return
    for made in range(max(study.seeds.head, study.seeds.gate)):
        if made and not _another(study, _first(done, "head", made), reference):
            return
        yield "head"


def _first(done: Sequence[Run], purpose: str, count: int) -> list[Run]:
    return [run for run in done if run.purpose == purpose][:count]


def _gain(study: Study, runs: Sequence[Run], reference: Reference) -> tuple[float, Spread]:
    """How much better the runs are than the reference's score, and the spread that this is judged by."""
    metric = study.objective.metric
    values = [run.metrics[metric] for run in runs]
    gain = study.objective.gain(mean(values), reference.score)
    return gain, reference.noise.get(metric, UNKNOWN).joined(values)


def _lost(study: Study, runs: Sequence[Run], reference: Reference, most: int) -> bool:
    """Whether a trial can be given up before the last of `most` seeds: surely worse, or surely outside a gate."""
    level = stop_level(study, most)
    gain, spread = _gain(study, runs, reference)
    gates = at_gates(study.gates, runs, reference.noise, level)
    return below(gain, len(runs), spread, level) or any(at.hopeless(level) for at in gates)


def _screened(study: Study, runs: Sequence[Run], reference: Reference) -> bool:
    """Whether screening is decided before its last seed, either way: these runs enter no score."""
    gain, spread = _gain(study, runs, reference)
    won = below(-gain, len(runs), spread, stop_level(study, study.seeds.screen))
    return _lost(study, runs, reference, study.seeds.screen) or (won and promising(study, runs, reference))


def _another(study: Study, runs: Sequence[Run], reference: Reference) -> bool:
    """Whether the fresh runs need one more: up to `seeds.head` unless it is lost, then only for a gate's bound."""
    if len(runs) < study.seeds.head:
        return not _lost(study, runs, reference, study.seeds.head)
    gates = at_gates(study.gates, runs, reference.noise, gate_level(study))
    more_tells = any(not at.sure for at in gates if not at.gate.each)  # of the next run's bound they tell little
    open_ = more_tells and not any(at.missed for at in gates)
    return open_ and _gain(study, runs, reference)[0] > 0


def verdict(study: Study, runs: Sequence[Run], reference: Reference) -> Verdict:
    """Keep, discard or disqualify a trial that ran to the end."""
    objective, counted = study.objective, counting(runs)
    score = mean([run.metrics[objective.metric] for run in counted])
    strict, fresh = study.decision.rule == "strict-improvement", any(run.purpose in FRESH for run in counted)
    arithmetic: dict[str, Any] = {
        "rule": f"{study.decision.rule}/1",
        "against": reference.name,
        "reference": reference.score,
        "reference_n": reference.n,
        "score": score,
        "score_n": len(counted),
        "gain": objective.gain(score, reference.score),
    }
    gates = at_gates(study.gates, counted, reference.noise, gate_level(study))
    if not strict:
        noise = reference.noise.get(objective.metric, UNKNOWN)
        gain, spread = _gain(study, counted, reference)
        most = study.seeds.head if fresh else study.seeds.screen
        arithmetic |= {"known_sd": noise.sd, "known_df": noise.df} | gate_facts("gate", gates)
        arithmetic |= look_facts(study, gain, spread, len(counted), most)
    better = objective.better(score, reference.score)
    bars = [at for at in gates if at.missed or (better and fresh and not strict and not at.sure)]
    if bars:
        return Verdict("disqualified", str(bars[0]), "gate", arithmetic=arithmetic)
    if better:
        return Verdict("keep", "", confirmed=strict, arithmetic=arithmetic)
    return Verdict("discard", _why_not(study, runs, counted, reference), arithmetic=arithmetic)


def _why_not(study: Study, runs: Sequence[Run], counted: Sequence[Run], reference: Reference) -> str:
    """What there is to say of a trial that is no better: nothing where one look was enough, as it was meant to be."""
    if len(counted) < len(runs) and promising(study, [run for run in runs if run.purpose == "screen"], reference):
        few = "" if len(counted) >= study.seeds.head else f", and {study.seeds.head} would not have"
        return f"looked better once, {plural(len(counted), 'fresh seed')} did not bear it out{few}"
    return ""


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


def values(outcome: Outcome, *purposes: str) -> list[float]:
    """The study metric's values over the runs with these purposes."""
    return measured(outcome.runs, outcome.summary.metric, *purposes)


def beside(head: Outcome, rival: str) -> list[float]:
    """The scores of a trial that ran beside the head's confirmation seeds."""
    return measured([run for run in head.runs if run.of == rival], head.summary.metric, RIVAL)


def compared(head: Outcome, rival: Outcome, others: Iterable[Outcome]) -> tuple[list[float], list[float], Spread]:
    """What a claim compares: the head's confirmation runs, the last confirmed trial's (or the baseline's; of either
    those beside them, where there are any), and the spread over both and all other fresh seeds."""
    mine = values(head, "confirm")
    theirs = beside(head, _oid(rival)) or values(rival, "confirm") or values(rival, "baseline")
    return mine, theirs, pooled([mine, theirs, *(values(other, *FRESH) for other in others)])


def _oid(outcome: Outcome) -> str:
    """The trial that an outcome is about."""
    return str(outcome.binding.get("commit", ""))


def claim_due(study: Study, head: Outcome, rival: Outcome, others: Iterable[Outcome]) -> bool:
    """Whether the head's confirmation runs are enough for its claim."""
    mine, theirs, spread = compared(head, rival, others)
    return claimable(study, study.objective.gain(mean(mine), mean(theirs)), spread, (len(mine), len(theirs)))


def claimable(study: Study, gain: float, spread: Spread, sizes: tuple[int, int]) -> bool:
    """Whether a claim is decided: all its seeds are there, or the head is surely worse already."""
    n, most = sizes[0], study.seeds.confirm
    return n == most or (0 < n < most and below(gain, 1 / (1 / n + 1 / sizes[1]), spread, stop_level(study, most)))


def claim(
    study: Study, head: Outcome, rival: Outcome, others: Iterable[Outcome], number: int, noise: Noise | None = None
) -> Verdict:
    """Test the head's confirmation runs against the last confirmed trial (or the baseline); claims count from 1.

    Confirmed where T > t(1−α_j, df), and the gates are met. Below zero the head is demoted; in between nothing is
    claimed.
    """
    mine, theirs, spread = compared(head, rival, others)
    gain = study.objective.gain(mean(mine), mean(theirs))
    gates = claimed_gates(study, head.runs, noise or {})
    p, alpha, found = tested(study, number, gain, spread, (len(mine), len(theirs)))
    bars = [at for at in gates if at.missed or (found == "confirmed" and not at.sure)]
    found = gated(found, gates)
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
    } | gate_facts("claim_gate", gates)
    on = plural(len(mine), "fresh seed")
    if beside(head, _oid(rival)):
        arithmetic |= {"claim_beside": _oid(rival)}
        on += " in turn"
    told = f"{signed(mean(mine) - mean(theirs))} vs {rival_name} on {on}, p = {p:.2g}"
    if bars:
        told = f"{bars[0]}; {told}"
    if found == "rolled back":
        return Verdict("discard", f"rolled back: {told}", UNCONFIRMED, arithmetic=arithmetic)
    asked = f", asked {alpha:.2g}" if found == "undecided" and not bars else ""
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


def first_claim_sees(study: Study, spread: Spread, n: int, baseline: int, power: float = 0.8) -> float:
    """The smallest effect that a first claim of n seeds sees against so many of the baseline, or with `interleave`
    against n in turn with its own."""
    return detectable(spread, n, n if study.decision.interleave else baseline, share(study, 1), power)


def share(study: Study, number: int) -> float:
    """The share of alpha that claim j may spend: α/(j(j+1)), which sums to α."""
    return study.decision.alpha / (number * (number + 1))
