"""What stopping by learning curves would have saved in a search that recorded all its curves, and at what price.

    python benchmarks/curves.py                       # the recorded search of tests/data/curves_golf.json
    python benchmarks/curves.py DIR --record out.json # of a study whose curve_alpha is 0: nothing in it was stopped

Each trial's first run is judged as `gitresearch run` would have: by its parent's runs and by the trials before it, all
of them as far as they were known when it began, stopped ones left out. `lost` are first runs that beat what they were
compared with and are stopped; the rule promises that they are no more of all first runs than the level. Seconds are
those of first runs, by the study's clock; one that is stopped costs its share of training and no evaluation.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gitresearch.curves import MARKS, Experience
from gitresearch.outcome import Outcome, Run, summarise
from gitresearch.repo import Repo
from gitresearch.study import STUDY_FILE, Study, load

RECORDED = Path(__file__).resolve().parent.parent / "tests/data/curves_golf.json"
LEVELS = (0.05, 0.1, 0.2, 0.3)


@dataclass(frozen=True)
class First:
    """A trial's first run, and what it was compared with."""

    trial: str
    parent: str
    kept: bool
    reference: float
    run: Run


@dataclass
class Told:
    runs: int = 0
    judged: int = 0
    stopped: int = 0
    won: int = 0
    lost: int = 0
    kept_lost: int = 0
    seconds: float = 0.0
    saved: float = 0.0


def record(top: Path) -> dict[str, Any]:
    """The runs of a study that have a whole curve, oldest first, and its trials."""
    repo = Repo.open(top)
    study = load((top / STUDY_FILE).read_text("utf-8"))
    runs: list[dict[str, Any]] = []
    trials = {}
    for found in repo.trials(study.name):
        outcome = repo.outcome(found.trial.oid)
        if outcome is None:
            continue
        name, reference = found.trial.short, outcome.decision.get("reference")
        parents = [oid[:8] for oid in found.trial.parents]
        trials[name] = {"parent": parents[0] if parents else "", "status": outcome.summary.status}
        trials[name] |= {"operator": found.trial.operator, "reference": reference}
        metric = study.objective.metric
        runs += [told(name, run, metric) for run in outcome.runs if len(run.curve) == len(MARKS) and run.metrics]
    runs.sort(key=lambda run: run["started"])
    return {"direction": study.objective.direction, "trials": trials, "runs": runs}


def told(name: str, run: Run, metric: str) -> dict[str, Any]:
    seconds = {"train": run.train_seconds, "eval": run.eval_seconds}
    what = {"trial": name, "purpose": run.purpose, "started": run.started, "score": run.metrics[metric]}
    return what | seconds | {"curve": list(run.curve)}


def firsts(kept: Mapping[str, Any]) -> Iterator[tuple[First, dict[str, list[Run]]]]:
    """Each trial's first run, with all runs by trial that had begun before it."""
    before: dict[str, list[Run]] = {}
    for row in kept["runs"]:
        name, trial = row["trial"], kept["trials"][row["trial"]]
        metrics = {"score": row["score"]}
        run = Run(0, row["purpose"], "ok", metrics, row["train"], row["eval"], curve=tuple(row["curve"]))
        judged = trial["reference"] is not None and trial["operator"] != "replicate"  # one that failed names none
        if row["purpose"] == "screen" and name not in before and judged:
            yield First(name, trial["parent"], trial["status"] == "keep", trial["reference"], run), before
        before.setdefault(name, []).append(run)


def replay(kept: Mapping[str, Any], study: Study, level: float) -> Told:
    """The rule's decisions at a level. `study` gives metric and direction; its metric is named `score` here."""
    asked = replace(study, decision=replace(study.decision, curve_alpha=level))
    found, past = Told(), list[tuple[str, str]]()
    for first, before in firsts(kept):
        known = {name: _outcome(runs) for name, runs in before.items()}
        bar = Experience(asked, known.get).bar(first.parent, past, first.reference)
        curve, whole = first.run.curve, first.run.total_seconds
        mark = next((n for n in range(1, len(curve) + 1) if bar and bar.hopeless(curve[:n])), None)
        wins = study.objective.better(first.run.metrics["score"], first.reference)
        found.runs, found.seconds = found.runs + 1, found.seconds + whole
        found.judged, found.won = found.judged + (bar is not None), found.won + wins
        if mark is None:
            past.append((first.trial, first.parent))
            continue
        found.stopped, found.lost = found.stopped + 1, found.lost + wins
        found.kept_lost += first.kept
        found.saved += whole - MARKS[mark - 1] * first.run.train_seconds
    return found


def _outcome(runs: Sequence[Run]) -> Outcome:
    return Outcome(summarise("discard", "score", runs, ""), tuple(runs))


def question(direction: str) -> Study:
    text = f'[objective]\nmetric = "score"\ndirection = "{direction}"\n'
    return load(
        f'name = "recorded"\n[recipe]\ntrain = "python train.py"\n{text}[evaluator]\nhook = "hook.py"\n'
        '[[specialists]]\nname = "one"\nsurface = ["**"]\n'
    )


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", nargs="?", type=Path, help="a study's folder [the recorded search]")
    parser.add_argument("--record", type=Path, metavar="JSON")
    options = parser.parse_args(argv)
    kept = record(options.study) if options.study else json.loads(RECORDED.read_text("utf-8"))
    if options.record:
        options.record.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    kept_all = sum(trial["status"] == "keep" for trial in kept["trials"].values())
    print("level  first runs  judged  stopped  lost  of winners  of keeps  seconds saved")
    for level in LEVELS:
        one = replay(kept, question(kept["direction"]), level)
        share = one.saved / one.seconds if one.seconds else 0.0
        counts = f"{one.runs:10}  {one.judged:6}  {one.stopped:7}  {one.lost:4}"
        price = f"{one.lost:2} of {one.won:2}    {one.kept_lost:2} of {kept_all:2}"
        print(f"{level:5}  {counts}  {price}  {one.saved:.0f} of {one.seconds:.0f} ({share:.0%})")


if __name__ == "__main__":
    main(sys.argv[1:])
