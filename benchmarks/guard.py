"""What the gate costs a push, as the ratio to the same push without it.

    python benchmarks/guard.py            # 100 trials to servers that hold none, and 2,000
    python benchmarks/guard.py --full     # and 20,000

Each history is searched by the lab itself with made-up scores, a signed notes commit an outcome. The server holds all
of it but the last 100 trials and what was said since; these are pushed by path, to a guarded copy of it and to a plain
one, by turns. Printed: the medians of three in seconds, and their ratio.
"""

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from audit import searched

from gitresearch.cli.main import run
from gitresearch.repo import Repo

NEW = 100
REFS = "refs/*:refs/*"


def git(where: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(where), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def without_the_last(repo: Repo, server: Path) -> None:
    """Take the newest trials off a server, and its notes back to before the first of them."""
    last = {record.trial.oid for record in repo.trials()[-NEW:]}
    for oid in last:
        git(server, "update-ref", "-d", f"refs/heads/{repo.trial(oid).branch}")
    for ref, (_, tip) in repo.notes_refs().items():
        links = list(repo.chain(tip))
        first = next((at for at, link in enumerate(links) if last & link.notes.keys()), len(links))
        git(server, "update-ref", *([ref, links[first - 1].oid] if first else ["-d", ref]))
    git(server, "gc", "-q", "--prune=now")


def pushed(top: Path, server: Path, copy: Path) -> float:
    """Seconds that a push to a copy of the server takes."""
    shutil.copytree(server, copy)
    began = time.perf_counter()
    git(top, "push", "--quiet", str(copy), REFS)
    seconds = time.perf_counter() - began
    shutil.rmtree(copy)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="a server that holds 20,000 trials as well")
    options = parser.parse_args()
    print(f"{'it holds':>8} {'plain s':>8} {'guarded s':>10} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for count in (0, 2_000, *((20_000,) if options.full else ())):
            top = Path(folder) / str(count)
            top.mkdir()
            repo = searched(count + NEW, top)
            plain, guarded = Path(folder) / f"plain-{count}", Path(folder) / f"guarded-{count}"
            git(Path(folder), "clone", "--quiet", "--mirror", str(top), plain.name)
            without_the_last(repo, plain)
            shutil.copytree(plain, guarded)
            if run(["-C", str(guarded), "guard"]):
                raise SystemExit("the gate could not be installed")
            times = [[pushed(top, server, Path(folder) / "copy") for server in (plain, guarded)] for _ in range(3)]
            without, within = (statistics.median(column) for column in zip(*times, strict=True))
            print(f"{count:>8,} {without:>8.2f} {within:>10.2f} {within / without:>6.1f}")


if __name__ == "__main__":
    main()
