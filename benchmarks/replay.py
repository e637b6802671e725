"""What cheap failure would have saved two published searches, and which keeps true keeps would not have made.

    python benchmarks/replay.py --records DIR      # or GITRESEARCH_RECORDS=DIR

DIR holds `cifar/results.tsv` and `nanochat_d12/results.tsv` of the released records of arXiv 2605.05724. They are not
part of this repository; without them it says so and ends. The records hold no code, curves or single seeds: what had
to be assumed is printed before the figures that stand on it. Seeds are drawn anew with each trial's own recorded mean
and spread, so a figure about them is a mean over the draws.
"""

import argparse
import csv
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean, median, stdev

from gitresearch.decision import t_tail

GATE = 0.96  # of CIFAR: mean accuracy over ten seeds
LEVEL = 0.01  # the chance that a trial which truly meets its gate is stopped, over all looks at its seeds
BASELINE = 26.356  # seconds of its baseline
SECONDS_SD = 0.25  # of one CIFAR trial's time: the system's own prompt calls 0.5 s two sigma
WALL = 5400.0  # of a NanoChat trial, by the record's own notes: a cap of 90 minutes
LOOK_AT = 0.2  # of the budget, when an overrun is projected
DRAWS = 100
MEASURED = ("keep", "discard", "disqualified")
FRESH = 2  # runs on fresh seeds that a trial which looked better must pass

Saved = dict[str, float]  # seconds, by trial


@dataclass(frozen=True)
class Row:
    """One trial of a record: seconds over all its seeds, and what was measured."""

    name: str
    status: str
    hypothesis: str
    seconds: float
    seeds: int
    gain: float
    each: float  # seconds of one seed
    accuracy: float
    sd: float
    score: float


def read(path: Path) -> list[Row]:
    """A record's trials, the baseline left out. An overrun without a time took the whole budget."""
    with path.open(encoding="utf-8", newline="") as file:
        return [row(fields) for fields in csv.DictReader(file, delimiter="\t") if fields["status"] != "baseline"]


def row(fields: dict[str, str]) -> Row:
    names = ("total_s", "delta_vs_best", "accuracy", "acc_std", "core_metric")
    number = {name: float(fields.get(name) or 0) for name in names}
    seeds = int(fields.get("n_seeds") or 1)
    seconds = number["total_s"] * seeds
    if fields["status"] == "train_budget_overrun" and not seconds:
        seconds = WALL
    return Row(
        fields["exp_id"], fields["status"], " ".join(fields["hypothesis"].lower().split()), seconds, seeds,
        abs(number["delta_vs_best"]), number["total_s"], number["accuracy"], number["acc_std"], number["core_metric"],
    )  # fmt: skip


def repeats(rows: Sequence[Row]) -> Saved:
    """Seconds of the trials whose hypothesis had been measured before, word for word."""
    seen: set[str] = set()
    saved = {}
    for one in rows:
        if one.hypothesis in seen and one.seconds:
            saved[one.name] = one.seconds
        if one.status in MEASURED:
            seen.add(one.hypothesis)
    return saved


def overruns(rows: Sequence[Row]) -> Saved:
    """What is left of the budget when an overrun is certain."""
    late = [one for one in rows if one.status == "train_budget_overrun"]
    return {one.name: (1 - LOOK_AT) * one.seconds for one in late}


def seeds_of(one: Row, draw: random.Random) -> list[float]:
    """Accuracies of single seeds that have the trial's recorded mean and standard deviation."""
    raw = [draw.gauss(0, 1) for _ in range(one.seeds)]
    centre, spread = fmean(raw), stdev(raw)
    return [one.accuracy + one.sd * (value - centre) / spread for value in raw]


def missed(values: Sequence[float], sd: float) -> int:
    """How many seeds are run when each is followed by a one-sided bound at LEVEL / seeds on their mean."""
    z = NormalDist().inv_cdf(1 - LEVEL / len(values))
    for count in range(1, len(values)):
        if fmean(values[:count]) + z * sd / math.sqrt(count) < GATE:
            return count
    return len(values)


def hopeless(values: Sequence[float], sd: float) -> int:
    """How many are run where the gate counts the bound at the end (one-sided 5 %), and a trial ends when the chance of
    reaching it, given the seeds so far, is under LEVEL."""
    n, z = len(values), NormalDist().inv_cdf
    asked = GATE + z(0.95) * sd / math.sqrt(n)
    for count in range(1, n):
        if fmean(values[:count]) + z(1 - LEVEL) * sd * math.sqrt(1 / count - 1 / n) < asked:
            return count
    return n


def gated(rows: Sequence[Row], stop: Callable[[Sequence[float], float], int], limit: int) -> tuple[Saved, float]:
    """Mean seconds saved for each trial that a rule may end at one of the first `limit` seeds; and how many of the
    trials that met the gate as recorded it stopped, as a mean over the draws."""
    sd, saved, lost = usual_spread(rows), {}, 0.0
    for one in rows:
        if one.accuracy and one.seeds > 1:
            draw = random.Random(one.name)
            taken = [stop(seeds_of(one, draw), sd) for _ in range(DRAWS)]
            counted = [count if count <= limit else one.seeds for count in taken]
            saved[one.name] = one.seconds * (1 - fmean(counted) / one.seeds)
            if one.status in ("keep", "discard"):
                lost += sum(count < one.seeds for count in counted) / DRAWS
    return {name: seconds for name, seconds in saved.items() if seconds}, lost


def usual_spread(rows: Sequence[Row]) -> float:
    """The median spread of seeds over the trials."""
    return median(one.sd for one in rows if one.sd)


def no_faster(rows: Sequence[Row], best: float) -> Saved:
    """All seeds but the first of trials whose time is no better than the best at that moment."""
    saved = {}
    for one in rows:
        if one.each and one.each >= best:
            saved[one.name] = one.seconds * (1 - 1 / one.seeds)
        if one.status == "keep":
            best = min(best, one.each)
    return saved


def passes(one: Row) -> float:
    """p of the one-sided t test that the trial's mean accuracy lies above its gate."""
    return t_tail((one.accuracy - GATE) * math.sqrt(one.seeds) / one.sd, one.seeds - 1)


def scatter(rows: Sequence[Row]) -> float:
    """A robust spread of the scores of the trials that were measured and not kept, of the newest half: true effects are
    in it, so that a run's own spread is likely less."""
    scores = [one.score for one in rows[len(rows) // 2 :] if one.status == "discard" and one.score]
    centre = median(scores)
    return 1.4826 * median(abs(score - centre) for score in scores)


def share(rows: Sequence[Row], saved: Saved, more: str = "") -> str:
    whole = sum(one.seconds for one in rows)
    return f"{sum(saved.values()):10,.0f} s {100 * sum(saved.values()) / whole:5.1f} %  {len(saved):3} trials  {more}"


def together(rows: Sequence[Row], *rules: Saved) -> Saved:
    """Each trial's seconds count once, by the rule that saves most of them."""
    best = {one.name: max(rule.get(one.name, 0.0) for rule in rules) for one in rows}
    return {name: seconds for name, seconds in best.items() if seconds}


def sum_up(rows: Sequence[Row], saved: Saved) -> None:
    """All rules at once: what is left, and how much of that goes to trials that ended without a rank."""
    whole, left = sum(one.seconds for one in rows), {one.name: one.seconds - saved.get(one.name, 0.0) for one in rows}
    bad = [one for one in rows if one.status not in ("keep", "discard")]
    before, after = sum(one.seconds for one in bad) / whole, sum(left[one.name] for one in bad) / sum(left.values())
    print(
        f"  all together            {share(rows, saved, f'{whole / sum(left.values()):.2f} times the trials an hour')}"
    )
    print(f"  trials that failed or were disqualified: {100 * before:.1f} % of the time; {100 * after:.1f} % after")


def head(name: str, rows: Sequence[Row], *assumed: str) -> None:
    whole = sum(one.seconds for one in rows)
    print(f"{name}: {len(rows)} trials, {whole:,.0f} s of evaluation as recorded")
    for sentence in assumed:
        print(f"  assumed: {sentence}")


def cifar(rows: Sequence[Row]) -> None:
    """The record whose trials ran ten seeds before they missed a gate."""
    head(
        "cifar", rows, "total_s is one seed's, so that a trial took total_s × n_seeds; a seed's time is their mean",
        f"a seed's accuracy has a spread known beforehand (calibration): {usual_spread(rows):.5f}, the median of all",
        f"a bound errs with {LEVEL:g} in all, spread evenly over ten looks; seeds run one after another, in any order",
        f"one trial's time has a spread of {SECONDS_SD} s (that system's prompt), its rival's too",
        "the same code where the hypothesis is the same, word for word",
    )  # fmt: skip
    first, lost_first = gated(rows, missed, 1)
    every, lost_every = gated(rows, missed, 9)
    bound, lost_bound = gated(rows, hopeless, 9)
    slow, again, none = no_faster(rows, BASELINE), repeats(rows), Saved()
    print(f"  preflight, size         {share(rows, none, 'no cap on size, crashes cost nothing on record')}")
    print(f"  gate after one seed     {share(rows, first, f'{lost_first:.2f} of 9 that met it stopped')}")
    print(f"  gate after every seed   {share(rows, every, f'{lost_every:.2f} of 9 that met it stopped')}")
    print(
        f"  its bound out of reach  {share(rows, bound, f'{lost_bound:.2f} of 9 that met it stopped, by their mean')}"
    )
    print(f"  screening: no faster    {share(rows, slow, 'by its first seed')}")
    print(f"  projected overrun       {share(rows, none, 'no budget of time')}")
    print(f"  no repeats              {share(rows, again)}")
    sum_up(rows, together(rows, bound, slow, again))
    for one in (one for one in rows if one.status == "keep"):
        p, gate = 1 - NormalDist().cdf(one.gain / (SECONDS_SD * math.sqrt(2))), passes(one)
        print(f"  keep {one.name}: gain {one.gain:.3f} s p = {p:.2g}, gate p = {gate:.2g}: {verdict(p, gate)}")


def verdict(*ps: float) -> str:
    return "kept" if max(ps) < 0.05 else "not kept at 5 %"


def nanochat(rows: Sequence[Row]) -> None:
    """The record whose trials were judged by one run each."""
    sd = scatter(rows)
    head(
        "nanochat_d12", rows, f"an overrun took all of {WALL:g} s, which its row leaves out",
        f"its step rate told at {100 * LOOK_AT:g} % of the budget",
        "the same code where the hypothesis is the same, word for word",
        f"no run was repeated: CORE has the spread {sd:.4f} of the later discards (median deviation), or less",
    )  # fmt: skip
    late, again, none = overruns(rows), repeats(rows), Saved()
    slow = max(one.seconds for one in rows if one.status in ("keep", "discard"))
    keeps = [one for one in rows if one.status == "keep"]
    spent = {one.name: -FRESH * one.seconds for one in keeps}
    print(f"  preflight, size         {share(rows, none, 'no cap on size; one crash was met by a smoke run, 11 s')}")
    print(f"  gate after one seed     {share(rows, none, 'no gate')}")
    print(f"  projected overrun       {share(rows, late, f'the slowest that ended took {slow:,.0f} s')}")
    print(f"  no repeats              {share(rows, again)}")
    print(f"  {FRESH} fresh seeds a keep    {share(rows, spent, 'spent, not saved: what a true keep costs')}")
    sum_up(rows, together(rows, late, again))
    for one in keeps:
        error = math.sqrt(1 + 1 / FRESH)
        p, most = 1 - NormalDist().cdf(one.gain / (sd * error)), one.gain / (error * NormalDist().inv_cdf(0.95))
        print(
            f"  keep {one.name}: gain {one.gain:.4f} p = {p:.2g}: {verdict(p)}; kept where the spread is < {most:.4f}"
        )


RECORDS: dict[str, Callable[[Sequence[Row]], None]] = {"cifar": cifar, "nanochat_d12": nanochat}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=Path, default=os.environ.get("GITRESEARCH_RECORDS"))
    records = parser.parse_args().records
    for name, told in RECORDS.items():
        path = Path(records) / name / "results.tsv" if records else None
        if path is None or not path.is_file():
            print(f"{name}: no record here, so nothing is replayed; give its folder with --records")
            continue
        told(read(path))


if __name__ == "__main__":
    main()
