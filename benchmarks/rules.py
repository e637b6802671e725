"""The same offline search with this project's rules and without them, side by side for the same time.

    python benchmarks/rules.py --minutes 12 --repetitions 5 --out rules.json
    python benchmarks/rules.py --arm rules --arm plain

All arms search the shipped golf recipe at its small scale with one job each, at the same time, by the same agent with
the same seed. `rules` is the study as it ships. `plain` is what published systems do: the rule `strict-improvement`, by
which whatever one run says is kept and claimed; nothing is foreseen, so that a recipe that says nothing of its progress
runs to its end, and a size is known once it is packed. `fixed` is the other published way: the same, and every trial is
the mean of three seeds. What each claims at the end (its best against its baseline) is then measured again on fresh
seeds by `gitresearch reproduce`, after the time and for all alike. Wasted is the share of evaluation seconds of trials
that got no rank, but for those that were ended early because they could not win. A search cut short is gone on with.
"""

import argparse
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tasks import T975, begin, call, git

from gitresearch.study import STUDY_FILE

ARMS = ("rules", "plain", "fixed")
RECIPE = "recipes/parameter_golf"
DIFFERS = 4  # the exit code of `reproduce` where fresh seeds don't bear a claim out


def make(top: Path, arm: str, seed: int) -> None:
    """A study of an arm, begun."""
    if (top / ".git/refs/heads/main").exists():
        return
    begin(top, "golf", seed)
    if arm != "rules":
        text = (top / STUDY_FILE).read_text("utf-8")
        kept = "\n".join(row for row in text.splitlines() if not row.startswith(("[decision]", "curve_alpha"))) + "\n"
        rule = '[decision]\nrule = "strict-improvement"\ndrift_every = 0\n\n[evaluator]\n'
        seeds = "screen = 3" if arm == "fixed" else "screen = 1"
        kept = kept.replace("[evaluator]\n", rule, 1).replace("screen = 1", seeds, 1)
        (top / STUDY_FILE).write_text(kept, "utf-8")
        # Says nothing of its progress; and the hook doesn't know this model, so it projects no size.
        train, model = (top / RECIPE / name for name in ("train.py", "model.py"))
        train.write_text(train.read_text("utf-8").replace("channel = os.environ.get(", "channel = {}.get("), "utf-8")
        model.write_text(model.read_text("utf-8") + "\nNO_SIZE_IS_PROJECTED = ()\n", "utf-8")
        git(top, "commit", "--quiet", "--all", "--amend", "--no-edit")


def search(top: Path, minutes: float, flags: Sequence[str]) -> float:
    """Search for so long, and let what is under way end; the seconds that it took in all."""
    spent = top.with_suffix(".seconds")
    if spent.exists():
        return float(spent.read_text())
    began = time.monotonic()
    call(top, "run", "--plain", "--jobs", "1", "--trials", "10000", "--hours", f"{minutes / 60:.4f}", *flags)
    spent.write_text(str(time.monotonic() - began))
    return float(spent.read_text())


def reproduced(top: Path, trial: str) -> list[float]:
    """A trial's scores on the seeds of a witness."""
    runs = json.loads(call(top, "show", trial, "--json"))["runs"]
    return [run["metrics"]["val_bpb"] for run in runs if (run["purpose"], run["status"]) == ("reproduce", "ok")]


def measure(top: Path, seeds: int, flags: Sequence[str]) -> dict[str, Any]:
    """What the search claims, and what fresh seeds say of it."""
    trials = json.loads(call(top, "log", "--json"))
    start = next(trial for trial in trials if trial["status"] == "baseline")
    best = json.loads(call(top, "status", "--json"))["best"] or start
    fresh: list[float] = []
    if best["trial"] != start["trial"]:
        if missing := seeds - len(reproduced(top, best["trial"])):
            call(top, "reproduce", best["trial"], "--seeds", str(missing), *flags, also=DIFFERS)
        fresh = reproduced(top, best["trial"])
    stats = json.loads(call(top, "stats", "--json"))
    found = {"trials": len(trials) - 1, "wasted": stats["specialists"]["all"]["wasted_share"], "saved": stats["saved"]}
    statuses = {name: times["trials"] for name, times in stats["statuses"].items()}
    found |= {"statuses": statuses, "claimed": start["score"] - best["score"], "fresh": 0.0, "error": 0.0}
    if fresh:
        found["fresh"] = start["score"] - statistics.mean(fresh)
        found["error"] = math.sqrt(start["sd"] ** 2 / start["n"] + statistics.variance(fresh) / len(fresh))
    return found


def told(arm: str, found: Sequence[dict[str, Any]]) -> str:
    """A row of the table: means over the repetitions, with the 95 % interval of the mean."""

    def middle(values: Sequence[float]) -> str:
        n = len(values)
        spread = T975[min(n - 2, len(T975) - 1)] * statistics.stdev(values) / math.sqrt(n) if n > 1 else math.inf
        return f"{statistics.mean(values):7.3f} ± {spread:.3f}"

    hourly = [one["trials"] * 3600 / one["seconds"] for one in found]
    gains = "  ".join(middle([one[name] for one in found]) for name in ("claimed", "fresh"))
    gap = middle([one["claimed"] - one["fresh"] for one in found])
    wasted = middle([100 * one["wasted"] for one in found])
    return f"{arm:6} {middle(hourly)} trials/h  wasted {wasted} %  claimed, fresh {gains} bpb  claimed − fresh {gap}"


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arm", action="append", choices=ARMS, help="again for more [all]")
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first repetition's seed")
    parser.add_argument("--seeds", type=int, default=5, help="fresh seeds for what is claimed")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gitresearch-rules")
    parser.add_argument("--out", type=Path, metavar="JSON")
    options = parser.parse_args(argv)
    flags = [] if shutil.which("bwrap") else ["--allow-unsandboxed"]
    arms = options.arm or ARMS
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for repetition in range(options.first, options.first + options.repetitions):

        def one(arm: str, repetition: int = repetition) -> dict[str, Any]:
            top = options.work.absolute() / f"{arm}-{repetition}"
            make(top, arm, repetition)
            seconds = search(top, options.minutes, flags)
            return measure(top, options.seeds, flags) | {"seconds": seconds}

        with ThreadPoolExecutor(len(arms)) as every:
            for arm, found in zip(arms, every.map(one, arms), strict=True):
                results[arm].append(found)
                print(f"{repetition} {arm:6} {json.dumps(found)}", flush=True)
        if options.out:
            options.out.write_text(json.dumps(results, indent=2), "utf-8")
    for arm in arms:
        print(told(arm, results[arm]))


if __name__ == "__main__":
    main(sys.argv[1:])
