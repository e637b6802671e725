"""The outcomes: bound to what they are about, and each number and status following from the runs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from gitresearch import decision, drift, looks
from gitresearch.curves import MARKS
from gitresearch.decision import Reference
from gitresearch.noise import Spread, pooled
from gitresearch.outcome import (
    DRIFT,
    EARLY_STOP,
    FAILED,
    HOLDOUT,
    OWN_METRICS,
    RIVAL,
    TIMES,
    Outcome,
    Run,
    is_revoked,
    is_witness,
    mean,
    own,
    summarise,
)
from gitresearch.study import Study
from gitresearch.trial import Trial

# A program may end by itself between two looks at the wall clock, which are 50 ms apart.
LATE_SECONDS = 0.25
CLOSE = 1e-9
Wrong = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Pins:
    """What every outcome of a study is bound to. `data` is None while nobody said."""

    base: str
    hook: str
    data: str | None = None


def check(study: Study, trial: Trial, outcome: Outcome, pins: Pins) -> Wrong:
    """What does not follow in one outcome by itself: claim and finding. Of one that was taken back, or that is a
    witness's alone, what it says of the trial is no verdict of the study."""
    yield from _binding(trial, outcome, pins)
    yield from _drift(study, trial, outcome)
    for run in outcome.runs:
        yield from _run(study, run)
    yield from figures(study, outcome)
    if is_revoked(outcome) or is_witness(outcome):
        return
    # How a run on the holdout ended, or one of a claim's rival, is no part of the verdict.
    decided = tuple(run for run in own(outcome.runs) if run.purpose != HOLDOUT)
    yield from _status(study, trial, replace(outcome, runs=decided))
    if "claim" in outcome.decision:
        yield from _claim(study, outcome)
    else:
        yield from _unclaimed(study, outcome)


def _binding(trial: Trial, outcome: Outcome, pins: Pins) -> Wrong:
    wanted = {"commit": trial.oid, "tree": trial.tree, "base": pins.base, "hook": pins.hook}
    if pins.data is not None:
        wanted["data"] = pins.data
    for name, value in wanted.items():
        told = outcome.binding.get(name, "")
        if told != value:
            yield f"measured for this {name}", f"it names {str(told)[:20] or 'none'}, not {value[:20] or 'none'}"


def _drift(study: Study, trial: Trial, outcome: Outcome) -> Wrong:
    """Only the baseline is run again to see whether it moved, and what is said of that follows."""
    if trial.operator != "baseline" and any(run.purpose == DRIFT for run in outcome.runs):
        yield "a drift that its runs give", f"a run of a trial that is {trial.operator} is called one of the baseline"
    made = drift.facts(study, outcome.runs) if trial.operator == "baseline" else {}
    for name in sorted(made.keys() | {name for name in outcome.decision if name.startswith("drift_")}):
        if not same(outcome.decision.get(name), made.get(name)):
            yield "a drift that its runs give", f"{name} is {outcome.decision.get(name)}, not {made.get(name)}"


def _run(study: Study, run: Run) -> Wrong:
    budget = study.budget
    if run.status != "harness_abort" and bool(run.of) != (run.purpose == RIVAL):
        yield "a run of the trial it is told of", f"seed {run.seed} ({run.purpose}) is of {run.of[:8] or 'none'}"
    if run.status != "ok":
        return
    for name in sorted(OWN_METRICS & run.metrics.keys()):
        if run.metrics[name] != getattr(run, name):
            yield "measured by the evaluator itself", f"seed {run.seed} is scored {name} {run.metrics[name]:g}"
    if study.relative and not run.baseline_seconds > 0:
        yield "a run beside the unchanged recipe", f"seed {run.seed} has no seconds of that"
    late = LATE_SECONDS if budget.clock == "wall" else 0.001
    longest = budget.train_seconds + budget.eval_seconds + 2 * late
    for name, used, limit in (
        ("train_seconds", run.train_seconds, budget.train_seconds + late),
        ("eval_seconds", run.eval_seconds, budget.eval_seconds + late),
        ("baseline_seconds", run.baseline_seconds, longest if study.relative else 0.0),
        ("artefact_bytes", run.artefact_bytes, budget.artefact_bytes or math.inf),
        ("peak_memory_bytes", run.peak_memory_bytes, budget.memory_mb << 20),
    ):
        if not 0 <= used <= limit:
            yield "a run within its budget", f"seed {run.seed} has {name} {used:g}, and the study allows {limit:g}"
    if study.objective.metric not in run.metrics:
        yield "a run that was scored", f"seed {run.seed} has no {study.objective.metric}"


def _unclaimed(study: Study, outcome: Outcome) -> Wrong:
    if outcome.summary.confirmed and study.decision.rule != "strict-improvement":
        yield "confirmed by a claim", "there is no claim in its decision"


def figures(study: Study, outcome: Outcome) -> Wrong:
    """The head's numbers, folded from the runs once more: of every version, since others may be compared with any."""
    told, metric = outcome.summary, study.objective.metric
    made = summarise(told.status, metric, outcome.runs, told.at, claimed="claim" in outcome.decision)
    for name in ("metric", "score", "sd", "n", "seconds"):
        if not same(getattr(told, name), getattr(made, name)):
            yield "the head folds the runs", f"{name} is {getattr(told, name)}, and they give {getattr(made, name)}"
    seeds = [run.seed for run in outcome.runs]
    if len(set(seeds)) != len(seeds):
        yield "a seed of its own for each run", "two runs have one seed"


def _status(study: Study, trial: Trial, outcome: Outcome) -> Wrong:
    told = outcome.summary.status
    done = [run for run in outcome.runs if run.status != "harness_abort"]
    bad = [run for run in done if run.status != "ok"]
    if told == EARLY_STOP:
        yield from _early(study, trial, done)
    elif told in FAILED:
        # Seeds of a claim may have been under way in other slots when the first failed.
        ended = next((place for place, run in enumerate(done) if run.status != "ok"), len(done) - 1)
        ends = outcome.runs if told == "harness_abort" else done[: ended + 1]
        last = ends[-1].status if ends else "nothing"
        if told != "harness_abort" and any(run.purpose in ("screen", "head") for run in done[ended + 1 :]):
            yield "a status that its runs give", "it goes on after a run that ended it"
        if last != told:
            yield "a status that its runs give", f"it says {told}, and its last run ended in {last}"
    elif trial.operator == "baseline" or told == "baseline":
        if trial.operator != "baseline" or told != "baseline":
            yield "a status that its runs give", f"it says {told} of a trial that is {trial.operator}"
    elif bad:
        yield "a status that its runs give", f"it says {told}, and a run ended in {bad[-1].status}"
    else:
        yield from _verdict(study, trial, outcome, done)


def _early(study: Study, trial: Trial, done: Sequence[Run]) -> Wrong:
    """Only a first run may end early, where the study stops those that can't win, and at a mark of its curve."""
    timed = study.objective.metric in TIMES and study.objective.direction == "min"
    marked = all(run.foretold in MARKS and MARKS.index(run.foretold) == len(run.curve) - 1 for run in done)
    stops = timed or (study.decision.curve_alpha > 0 and marked)
    ends = [(run.purpose, run.status) for run in done]
    honest = stops and study.decision.rule == "two-tier" and trial.operator not in ("baseline", "replicate")
    if ends != [("screen", EARLY_STOP)] or not honest:
        yield "a status that its runs give", f"it says {EARLY_STOP}, which this study and these runs don't give"


def _verdict(study: Study, trial: Trial, outcome: Outcome, done: Sequence[Run]) -> Wrong:
    """Keep, discard or disqualify: by the study's rule, against the reference that the outcome names."""
    told, facts = outcome.summary.status, outcome.decision
    reference = Reference(
        str(facts.get("against", "")),
        number(facts.get("reference")),
        whole(facts.get("reference_n")),
        told_noise(study, facts),
    )
    counted = [run for run in done if run.purpose in ("screen", "head")]
    if any(study.objective.metric not in run.metrics for run in counted):
        return  # told by the run
    if not any(run.purpose == "screen" for run in counted):
        yield "as many runs as the study asks for", "it has none before its verdict"
        return
    wanted = list(islice(decision.purposes(study, trial.operator, counted, reference), len(counted) + 1))
    if [run.purpose for run in counted] != wanted:
        what = "other ones" if len(wanted) == len(counted) else "fewer" if len(wanted) < len(counted) else "more"
        yield "as many runs as the study asks for", f"it has {len(counted)} before its verdict, and {what} were due"
        return
    found = decision.verdict(study, counted, reference)
    if trial.operator == "replicate":
        found = decision.replicated(study, found, counted, None)
    made = found.status
    if "claim" in facts and made == "keep":
        made = "discard" if facts.get("claim_verdict") == "rolled back" else "keep"
    if told != made:
        yield "a status that its runs give", f"it says {told}, they give {made} against {reference.score:.6g}"
    for name in sorted(
        {"score", "gain", *(name for name in {*facts, *found.arithmetic} if name.startswith(("gate_", "look_")))}
    ):
        if not same(facts.get(name), found.arithmetic.get(name)):
            yield "a decision by its own arithmetic", f"{name} is {facts.get(name)}, not {found.arithmetic.get(name)}"


def told_noise(study: Study, facts: Mapping[str, object], gate: str = "gate") -> dict[str, Spread]:
    """The spreads of the baseline that a decision says it knew, by metric."""
    said = {one.metric: f"{gate}_{place}_known" for place, one in enumerate(study.gates, 1)}
    said |= {study.objective.metric: "known"} if gate == "gate" else {}
    names = {metric: name for metric, name in said.items() if f"{name}_sd" in facts}
    return {
        metric: Spread(number(facts[f"{name}_sd"]), whole(facts.get(f"{name}_df"))) for metric, name in names.items()
    }


def _claim(study: Study, outcome: Outcome) -> Wrong:
    """A claim's test, once more from the numbers that stand in it."""
    facts = outcome.decision
    told, rival = whole(facts.get("claim_n")), number(facts.get("claim_rival"))
    mine = decision.values(outcome, "confirm")[:told]  # others may have been under way when these decided it
    place, n, df = (whole(facts.get(name)) for name in ("claim", "claim_rival_n", "claim_df"))
    yield from _beside(study, outcome, rival, n)
    spread = Spread(number(facts.get("claim_sd")), df)
    gain = study.objective.gain(mean(mine), rival) if mine else 0.0
    if min(len(mine), place, n) < 1 or not decision.claimable(study, gain, spread, (len(mine), n)):
        yield "a claim on fresh seeds", f"it has {len(mine)} of {study.seeds.confirm}"
        return
    least = pooled([mine, decision.beside(outcome, str(facts.get("claim_beside", "")))[:n]])
    if df < least.df or spread.sd**2 * df < least.sd**2 * least.df * (1 - CLOSE):  # others' seeds are pooled with these
        yield "a spread that was measured", f"claim_sd {spread.sd:.6g} is less than its own seeds have"
    p, alpha, made = decision.tested(study, place, gain, spread, (len(mine), n))
    seeds = [run for run in outcome.runs if run.purpose == "confirm" and run.status == "ok"][:told]
    gates = looks.claimed_gates(study, seeds, told_noise(study, facts, "claim_gate"))
    made = looks.gated(made, gates)
    wanted = {"claim_gain": gain, "claim_alpha": alpha, "claim_p": p, "claim_n": len(mine)}
    wanted |= looks.gate_facts("claim_gate", gates)
    for name in sorted(wanted.keys() | {name for name in facts if name.startswith("claim_gate_")}):
        if not same(facts.get(name), wanted.get(name)):
            yield "a claim by its own arithmetic", f"{name} is {facts.get(name)}, not {wanted.get(name)}"
    if facts.get("claim_verdict") != made or outcome.summary.confirmed != (made == "confirmed"):
        yield "a claim by its own arithmetic", f"it says {facts.get('claim_verdict')}, the test gives {made}"


def _beside(study: Study, outcome: Outcome, rival: float, n: int) -> Wrong:
    """A claim against runs beside its own names their trial, and their mean is the rival's."""
    against = str(outcome.decision.get("claim_beside", ""))
    theirs = decision.beside(outcome, against)[:n] if against else []  # others may have been under way
    if against and not (study.decision.interleave and len(theirs) == n and n and same(mean(theirs), rival)):
        yield "a claim against runs that were made", f"{len(theirs)} of {against[:8]} beside it do not give {rival:.6g}"


Said = Mapping[str, Sequence[Outcome]]  # all that an evaluator ever said of each trial, oldest first
Across = Iterator[tuple[str, str, str]]  # about which trial, claim, finding


def across(study: Study, chains: Sequence[Said]) -> Across:
    """What does not follow between outcomes, whoever of the evaluators measured them."""
    yield from _references(chains)
    yield from _rivals(chains)
    yield from _shares(chains)
    yield from _spreads(study, chains)


def _references(chains: Sequence[Said]) -> Across:
    """A verdict is reached against a score that its reference had at some time."""
    had: dict[str, set[tuple[float | None, int]]] = {}
    for oid, one in ((oid, one) for oid, one in _versions(chains) if not is_witness(one)):
        for name in (f"head {oid[:8]}", *(["baseline"] if one.summary.status == "baseline" else [])):
            had.setdefault(name, set()).add((one.summary.score, one.summary.n))
    for oid, facts in _latest(chains, "reference"):
        name, score, n = str(facts.get("against", "")), facts["reference"], facts.get("reference_n")
        if not any(same(score, one) and n == count for one, count in had.get(name, ())):
            yield oid, "compared with a score that was measured", f"{name} never had {score}"


def _rivals(chains: Sequence[Said]) -> Across:
    """A claim is made against the confirmation or baseline runs of some trial, or against runs beside it of one that
    was confirmed, or the baseline."""
    ranked = {oid for oid, one in _versions(chains) if one.summary.confirmed or one.summary.status == "baseline"}
    made = [decision.values(one, purpose) for _, one in _versions(chains) for purpose in ("confirm", "baseline")]
    groups = {(mean(found), len(found)) for found in made if found}
    for oid, facts in _latest(chains, "claim"):
        score, n = number(facts.get("claim_rival")), whole(facts.get("claim_rival_n"))
        against = facts.get("claim_beside")
        if against is not None and against not in ranked:
            yield oid, "a claim against runs that were made", f"{str(against)[:8]} was never confirmed"
        elif against is None and not any(same(score, one) and n == count for one, count in groups):
            yield oid, "a claim against runs that were made", f"nothing scored {score:.6g} on {n} seeds"


def _shares(chains: Sequence[Said]) -> Across:
    """Each claim has a number of its own, by which its share of alpha shrinks."""
    first: dict[int, str] = {}
    for oid, facts in _latest(chains, "claim"):
        place = whole(facts["claim"])
        if first.setdefault(place, oid) != oid:
            yield oid, "each claim spends its own share of alpha", f"claim {place} is {first[place][:8]}'s too"


def _spreads(study: Study, chains: Sequence[Said]) -> Across:
    """What is judged by a spread names one that the baseline's seeds had at some time."""
    known = [
        looks.known_noise(study, one)
        for _, one in _versions(chains)
        if any(run.purpose == "baseline" for run in one.runs)
    ]
    for fact, gate in (("reference", "gate"), ("claim", "claim_gate")):
        for oid, facts in _latest(chains, fact):
            for metric, told in told_noise(study, facts, gate).items():
                had = (one[metric] for one in known)
                if not any(same(told.sd, one.sd) and told.df == one.df for one in had):
                    yield oid, "a spread that was measured", f"the baseline's {metric} never had {told.sd:.6g}"


def _versions(chains: Sequence[Said]) -> Iterator[tuple[str, Outcome]]:
    return ((oid, one) for said in chains for oid, versions in said.items() for one in versions)


def _latest(chains: Sequence[Said], fact: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The decisions that stand and hold a fact."""
    for said in chains:
        for oid, versions in said.items():
            if fact in versions[-1].decision:
                yield oid, versions[-1].decision


def number(value: object) -> float:
    """A fact as a number; nan where it is none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def whole(value: object) -> int:
    """A fact as a whole number; 0 where it is none, or none that can be reckoned with."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53 else 0


def same(a: object, b: object) -> bool:
    """Whether two values are the same; numbers but for rounding."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=CLOSE, abs_tol=1e-12)
    return a == b
