"""Train, weigh and score a copy of the golf recipe without the rest of gitresearch and without a sandbox: for tuning.

    python tests/recipes/standalone.py --cache DIR --seeds 1 2 3 --set model:WIDTH=96 --set data:VOCAB=1024

Prints one JSON line a seed: bits per byte, bytes, and CPU seconds of each process (rusage, as the evaluator counts).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
RECIPE = TOP / "recipes/parameter_golf"
HOOK = TOP / "evaluator_hooks/parameter_golf/hook.py"
SETTINGS = {"streams": 64}


def hook(verb: str, request: dict[str, Any], handles: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    """The hook at work on a request; the handles are its own from here on."""
    process = subprocess.Popen(
        [sys.executable, "-I", str(HOOK), verb], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=handles
    )
    for handle in handles:
        os.close(handle)
    assert process.stdin is not None
    process.stdin.write(json.dumps({"settings": SETTINGS, "limits": {"artefact_bytes": 160_000}, **request}).encode())
    process.stdin.close()
    return process


def reply(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    with process.stdout as out:
        said: dict[str, Any] = json.load(out)
    process.wait()
    return said


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process; what it used, its children included."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return round(usage.ru_utime + usage.ru_stime, 2)


def copy(tree: Path, settings: list[str]) -> None:
    """The recipe's code, with constants set by lines like `model:WIDTH=96`."""
    tree.mkdir()
    for path in RECIPE.glob("*.py"):
        (tree / path.name).write_bytes(path.read_bytes())
    for setting in settings:
        file, name, value = re.split("[:=]", setting, maxsplit=2)
        path = tree / f"{file}.py"
        text, count = re.subn(rf"(?m)^({name}: .*?) = \S+", rf"\1 = {value}", path.read_text("utf-8"), count=1)
        if not count:
            raise SystemExit(f"{file}.py has no constant {name}")
        path.write_text(text, "utf-8")


def run(splits: dict[str, str], seed: int, seconds: float, settings: list[str]) -> dict[str, Any]:
    """One run: what it scored, how many bytes it left, what it used."""
    with tempfile.TemporaryDirectory(prefix="golf-") as folder:
        tree, artefact = Path(folder) / "tree", Path(folder) / "artefact"
        copy(tree, settings)
        artefact.mkdir()
        env = {"PATH": os.environ["PATH"], "GITRESEARCH_ARTEFACT": str(artefact), "GITRESEARCH_SEED": str(seed)}
        env |= {"GITRESEARCH_TRAIN_SECONDS": str(seconds), "GITRESEARCH_EVAL_SECONDS": str(seconds)}
        env |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
        train = subprocess.Popen(
            [sys.executable, "train.py"], cwd=tree, env=env | {"GITRESEARCH_DATA": splits["train"]}, stdout=sys.stderr
        )
        found: dict[str, Any] = {"seed": seed, "set": settings, "train_cpu_s": cpu_seconds(train)}
        if train.returncode:
            return found | {"crashed": "train.py"}
        request = {"tree": str(tree), "artefact": str(artefact), "held_out": splits["held_out"]}
        found |= reply(hook("measure", request))
        to_trial, theirs = os.pipe(), os.pipe()
        predict = subprocess.Popen(
            [sys.executable, "predict.py"], cwd=tree, env=env, stdin=to_trial[0], stdout=theirs[1]
        )
        os.close(to_trial[0])
        os.close(theirs[1])
        ends = (to_trial[1], theirs[0])
        scoring = hook("score", request | {"to_trial": ends[0], "from_trial": ends[1]}, ends)
        found |= reply(scoring)
        return found | {"predict_cpu_s": cpu_seconds(predict)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", required=True, help="where the data is, or is fetched to")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--seconds", type=float, default=15.0, help="CPU seconds, for training and for predicting each")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="FILE:NAME=VALUE")
    told = parser.parse_args()
    splits = reply(hook("prepare", {"cache": told.cache}))
    if "error" in splits:
        raise SystemExit(splits["error"])
    for seed in told.seeds:
        print(json.dumps(run(splits, seed, told.seconds, told.settings)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
