"""The store against git's own commands, side by side in one run: writing a trial with its note, and reading them all.

    python benchmarks/store.py                 sizes 100, 2,000 and 10,000; about a minute
    python benchmarks/store.py --full          up to 100,000; some ten minutes
    python benchmarks/store.py --sizes 500     any size

Everything runs in a temporary directory (`--dir`). Compare ratios: absolute times are this machine's. Each figure is
the median of the rounds, which alternate between the two sides so that a busy minute hits both.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gitresearch.outcome import Outcome, Run, Summary
from gitresearch.repo import NewTrial, Repo
from gitresearch.trial import Hypothesis

RECIPE = "".join(f"def layer_{n}(x):\n    return x * {n}\n\n" for n in range(60))
BODY = (
    "A longer warmup lets the norms settle before the peak rate is reached, so the loss should fall sooner and the\n"
    "rate can stay higher afterwards. If the gain vanishes with the smaller batch, the mechanism is another one."
)
START = 1_767_225_600
WRITES = 60  # trials timed at each size


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(dir=options.dir, prefix="bench-store-") as folder:
        os.environ |= {"HOME": folder, "GIT_CONFIG_NOSYSTEM": "1", "XDG_CONFIG_HOME": folder}
        Path(folder, ".gitconfig").write_text("[user]\nname=Bench\nemail=bench@example.org\n[gc]\nauto=0\n")
        rows = [row for size in options.sizes for row in at_size(Path(folder), size, loose=size <= options.loose)]
        report(rows)
        if options.json:
            Path(options.json).write_text(json.dumps(rows, indent=1))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 2_000, 10_000], help="trials in the repository")
    parser.add_argument("--full", action="store_true", help="sizes 100, 10,000 and 100,000")
    parser.add_argument("--loose", type=int, default=2_000, help="largest size that is also read from loose objects")
    parser.add_argument("--dir", help="where the temporary directory is made")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    if options.full:
        options.sizes = [100, 10_000, 100_000]
    return options


def at_size(folder: Path, size: int, *, loose: bool) -> list[dict[str, object]]:
    """Every figure at one size: fill a repository, then read and write beside it."""
    repo = new_repo(folder / f"r{size}")
    base = repo.head_commit()
    began = time.perf_counter()
    repo.import_trials(new_trials(base, size))
    bulk = (time.perf_counter() - began) / size
    rows = reading(repo.common_dir, size, "packed by the import")
    git(repo.common_dir, "repack", "-adq")
    rows += reading(repo.common_dir, size, "packed by git gc")
    rows += writing(repo, size, base, bulk)
    shutil.rmtree(folder / f"r{size}")
    if loose:
        repo = new_repo(folder / f"l{size}")
        for number in range(size):
            write_one(repo, repo.head_commit(), number)
        rows += reading(repo.common_dir, size, "loose")
        shutil.rmtree(folder / f"l{size}")
    return rows


# -- writing


def writing(repo: Repo, size: int, base: str, bulk: float) -> list[dict[str, object]]:
    """One trial with its note, by each way, in a repository that holds `size` of them."""
    loose, synced = Repo.open(repo.git_dir, durable=False), Repo.open(repo.git_dir, durable=True)
    work = repo.git_dir.parent
    ways: dict[str, Callable[[int], None]] = {
        "git": lambda n: plumbing(work, base, n),
        "one at a time": lambda n: write_one(loose, base, n),
        "one at a time, fsync": lambda n: write_one(synced, base, n),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    # In turns, so that a busy moment hits both; the synced way alone, because a sync holds up whoever writes next.
    turns = [("git", "one at a time")] * WRITES + [("one at a time, fsync",)] * WRITES
    for number, names in enumerate(turns):
        for name in names:
            began = time.perf_counter()
            ways[name](size + 10_000_000 * (1 + list(ways).index(name)) + number)
            times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(found) for name, found in times.items()} | {"in bulk": bulk}
    return [
        {"size": size, "what": f"write, {name}", "us": took * 1e6, "ratio": medians["git"] / took}
        for name, took in medians.items()
    ]


def write_one(repo: Repo, base: str, number: int) -> None:
    trial = repo.make_trial(hypothesis(number), [base], edits(number), time=START + number % 10_000_000)
    repo.record(trial.oid, outcome(number))


def plumbing(work: Path, base: str, number: int) -> None:
    """The same objects and refs by git's plumbing, which is faster than switch, commit and notes."""
    blob = git(work, "hash-object", "-w", "--stdin", feed=edits(number)["train.py"])
    others = git(work, "ls-tree", base)
    lines = [f"100644 blob {blob}\ttrain.py" if line.endswith("\ttrain.py") else line for line in others.split("\n")]
    tree = git(work, "mktree", feed=("\n".join(lines) + "\n").encode())
    made = hypothesis(number)
    commit = git(work, "commit-tree", tree, "-p", base, "-F", "-", feed=made.message().encode())
    git(work, "update-ref", f"refs/heads/trial/bench/{made.slug}-{commit[:8]}", commit, "")
    git(work, "notes", "--ref=gitresearch/outcomes/by-git", "add", "-F", "-", commit, feed=outcome(number).note())


# -- reading


def reading(git_dir: Path, size: int, state: str) -> list[dict[str, object]]:
    """`git log --notes` over the trials, against the whole lineage as values, each in a process of its own."""
    log = ["git", f"--git-dir={git_dir}", "log", "--notes=gitresearch/*", "--branches=trial/*"]
    ours = [sys.executable, __file__, "--read-once"]
    found: dict[str, list[float]] = {"git log": [], "store": [], "peak": []}
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(log, stdout=subprocess.DEVNULL, check=True)
        found["git log"].append(time.perf_counter() - began)
        took, peak = json.loads(subprocess.run([*ours, str(git_dir)], capture_output=True, check=True).stdout)
        found["store"].append(took)
        found["peak"].append(peak)
    theirs, mine = statistics.median(found["git log"]), statistics.median(found["store"])
    peak = f", peak {max(found['peak']) / 1e6:.0f} MB"
    return [
        {"size": size, "what": f"read {state}, git log", "us": theirs / size * 1e6, "ratio": 1.0},
        {"size": size, "what": f"read {state}, store{peak}", "us": mine / size * 1e6, "ratio": theirs / mine},
    ]


def read_once(git_dir: str) -> None:
    """Print the seconds that reading every record takes, and the peak memory in bytes."""
    began = time.perf_counter()
    records = Repo.open(Path(git_dir), cache=False).trials()
    took = time.perf_counter() - began
    assert records, "nothing was read"
    print(json.dumps([took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))


# -- what is written


def new_trials(base: str, size: int) -> Iterator[NewTrial]:
    """A tree of trials: each stands on an earlier one, so that chains of every length occur."""
    for number in range(size):
        parents = [number // 3] if number else [base]
        yield NewTrial(hypothesis(number), parents, edits(number), START + number, outcome(number))


def hypothesis(number: int) -> Hypothesis:
    subject = f"warm up over {number} steps instead of {number // 2}"
    return Hypothesis(subject, "bench", ("optimizer", "schedule", "data")[number % 3], body=BODY, expected=-0.001)


def edits(number: int) -> dict[str, bytes | None]:
    return {"train.py": f"WARMUP = {number}\n{RECIPE}".encode()}


def outcome(number: int) -> Outcome:
    score = 1.0 + (number * 7919 % 10_007) / 10_007
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(START + number % 10_000_000))
    head = Summary("discard", "val_bpb", score, 0.0, 1, False, 61.5, at, "", "no better than the head")
    run = Run(number, "screen", "ok", {"val_bpb": score}, 55.0, 5.0, 61.5, 1 << 30, 1 << 20, at)
    return Outcome(head, (run,), binding={"commit": f"{number:040x}", "evaluator": f"{number * 3:040x}"})


def new_repo(path: Path) -> Repo:
    path.mkdir()
    git(path, "init", "--quiet")
    for name in ("train.py", "data.py", "README.md", "study.toml"):
        (path / name).write_text(RECIPE)
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--message=the recipe")
    return Repo.open(path, durable=False)


def git(where: Path, *arguments: str, feed: bytes | None = None) -> str:
    done = subprocess.run(["git", "-C", str(where), *arguments], input=feed, capture_output=True, check=True)
    return done.stdout.decode().strip()


def report(rows: list[dict[str, object]]) -> None:
    print(f"{'trials':>8}  {'what':52} {'µs a trial':>11} {'times faster than git':>22}")
    for row in rows:
        print(f"{row['size']:>8}  {row['what']:52} {row['us']:11.1f} {row['ratio']:22.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read-once"]:
        read_once(sys.argv[2])
    else:
        main()
