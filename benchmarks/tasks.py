"""What the offline agent finds on the shipped recipes' small scale, by the command line as a person types it.

    python benchmarks/tasks.py                                   # all recipes, 40 trials, 3 repetitions: hours
    python benchmarks/tasks.py --task golf --trials 12 --repetitions 1 --out golf.json

Each repetition is a study of its own, with another seed of the agent, in a folder below --work. What is there already
is gone on with: cut it short with ^C and start it again. What --out holds of earlier calls is kept, and told too.
`start` is the unchanged recipe's score, `best` that of the confirmed best on seeds drawn after it was chosen, with its
95 % interval (t, its own runs); a gain is in % of the start and in standard deviations of the start's runs, and where
claims ran in turn with what they are against (`decision.interleave`) that of those runs.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gitresearch import share
from gitresearch.study import STUDY_FILE, load

PROGRAM = [sys.executable, "-c", "from gitresearch.cli.main import main; main()"]
T975 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)  # of Student's t, by degrees of freedom from 1


def call(where: Path, *args: str, also: int = 0) -> str:
    """What a command prints; CalledProcessError where it fails, with its words on our stderr. To end with `also` is no
    failure."""
    done = subprocess.run([*PROGRAM, "-C", str(where), *args], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, also):
        done.check_returncode()
    return done.stdout


def git(where: Path, *args: str) -> None:
    subprocess.run(["git", "-C", str(where), *args], check=True, stdout=subprocess.DEVNULL)


def begin(top: Path, task: str, seed: int) -> None:
    """A study of a recipe whose agent has a seed of its own."""
    if (top / ".git/refs/heads/main").exists():
        return
    shutil.rmtree(top, ignore_errors=True)  # what an init that was cut short left
    top.parent.mkdir(parents=True, exist_ok=True)
    call(top.parent, "init", str(top), "--recipe", task, "--no-commit")
    text = (top / STUDY_FILE).read_text("utf-8")
    (top / STUDY_FILE).write_text(text.replace("[agent]\n", f"[agent]\nseed = {seed}\n"), "utf-8")
    git(top, "add", "--all")
    git(top, "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "begin")


def search(top: Path, trials: int, flags: Sequence[str]) -> None:
    """Go on until the study has so many trials beside its baseline."""
    made = json.loads(call(top, "status", "--json"))["trials"] - 1
    call(top, "run", "--plain", *flags, "--trials", str(max(0, trials - made)))


def found(top: Path) -> dict[str, Any]:
    """What a search came to."""
    direction = load((top / STUDY_FILE).read_text("utf-8")).objective.direction
    status, trials = (json.loads(call(top, verb, "--json")) for verb in ("status", "log"))
    start = next(trial for trial in trials if trial["status"] == "baseline")
    best = status["best"] or start
    way = 1 if direction == "min" else -1
    ratio = in_turn(top, best["trial"], way)
    gain = way * start["score"] * (1 - ratio) if ratio else way * (start["score"] - best["score"])
    return {
        "metric": best["metric"],
        "start": start["score"],
        "sd": start["sd"],
        "best": best["score"],
        "half": half(best["sd"], best["n"]),
        "percent": 100 * gain / abs(start["score"]),
        "sigmas": gain / start["sd"] if start["sd"] else 0.0,
        "statuses": status["statuses"],
        "seconds": status["seconds"],
    }


def in_turn(top: Path, trial: str, way: int) -> float:
    """A best trial's score over the start's, by the runs in turn of its claim and of those before it; 0 where a claim
    has none."""
    ratio = 1.0
    while "claim" in (facts := json.loads(call(top, "show", trial, "--json"))["decision"]):
        if "claim_beside" not in facts:
            return 0.0
        ratio *= 1 - way * facts["claim_gain"] / facts["claim_rival"]
        trial = facts["claim_beside"]
    return ratio


def half(sd: float, n: int) -> float:
    """Half the width of a mean's 95 % interval."""
    return T975[min(n - 1, len(T975)) - 1] * sd / n**0.5 if n > 1 else float("inf")


def told(task: str, repetition: int, one: dict[str, Any]) -> str:
    counts = " ".join(f"{name} {count}" for name, count in sorted(one["statuses"].items()))
    return (
        f"{task:16} {repetition}  {one['metric']} {one['start']:.4f} → {one['best']:.4f} ± {one['half']:.4f}"
        f"  gain {one['percent']:+.1f} % {one['sigmas']:+.1f} σ  {one['seconds']:.0f} s  {counts}"
    )


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", action="append", metavar="NAME", help="a recipe; again for more [all]")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first repetition's seed")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gitresearch-tasks")
    parser.add_argument("--out", type=Path, metavar="JSON")
    parser.add_argument("--jobs", help="trials at once [cores]")
    options = parser.parse_args(argv)
    flags = [] if shutil.which("bwrap") else ["--allow-unsandboxed"]
    flags += ["--jobs", options.jobs] if options.jobs else []
    known = options.out and options.out.exists()
    results: dict[str, list[dict[str, Any]]] = json.loads(options.out.read_text("utf-8")) if known else {}
    for task in [share.recipe(name).name for name in options.task or share.recipes()]:
        for repetition in range(options.first, options.first + options.repetitions):
            top = options.work.absolute() / f"{task}-{repetition}"
            begin(top, task, repetition)
            search(top, options.trials, flags)
            one = found(top) | {"seed": repetition}
            others = [other for other in results.get(task, []) if other["seed"] != repetition]
            results[task] = sorted([*others, one], key=lambda other: other["seed"])
            print(told(task, repetition, one), flush=True)
            if options.out:
                options.out.write_text(json.dumps(results, indent=2), "utf-8")
        gains = [one["percent"] for one in results[task]]
        each = ", ".join(f"{gain:+.1f}" for gain in gains)
        print(f"{task:16} mean gain {statistics.mean(gains):+.1f} % of {len(gains)} repetitions: {each}")


if __name__ == "__main__":
    main(sys.argv[1:])
