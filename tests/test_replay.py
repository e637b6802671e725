"""The replay of published records: what each rule saves, on a record of a few made-up trials."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "replay.py"
CIFAR = """\
exp_id	hypothesis	status	train_s	accuracy	acc_std	n_seeds	delta_vs_best	total_s
000	baseline	baseline	26.356
001	halve it	disqualified		0.900	0.001	10		20
002	as it was	keep	26	0.963	0.001	10	-0.356	26
003	Halve  it	disqualified		0.900	0.001	10		20
004	slow it	discard	27	0.963	0.001	10	1	27
"""


def test_without_records_it_says_so() -> None:
    """A checkout without the records replays nothing, and says how to give them."""
    done = subprocess.run([sys.executable, str(SCRIPT)], env={}, capture_output=True, text=True, check=True)
    assert done.stdout.count("no record here") == 2


def test_what_each_rule_saves(tmp_path: Path) -> None:
    """Seeds after the first of a hopeless trial, of a slow one, all of a repeat; nothing of a sound keep."""
    replay = runpy.run_path(str(SCRIPT))
    (tmp_path / "results.tsv").write_text(CIFAR)
    rows = replay["read"](tmp_path / "results.tsv")
    saved, lost = replay["gated"](rows, replay["missed"], 9)
    assert saved == {"001": 180.0, "003": 180.0}
    assert lost == 0
    assert replay["gated"](rows, replay["hopeless"], 9)[0] == saved
    assert replay["no_faster"](rows, replay["BASELINE"]) == {"004": 243.0}
    assert replay["repeats"](rows) == {"003": 200.0}
    assert replay["together"](rows, saved, replay["repeats"](rows)) == {"001": 180.0, "003": 200.0}
    assert replay["passes"](rows[1]) < 0.001


@pytest.mark.parametrize("level", [0.05, 0.1, 0.2, 0.3])
def test_the_curves_of_a_recorded_search(level: float) -> None:
    """Of a real search's first runs no more than the level are winners that its curves would have stopped; the rule
    judges nothing before it knows enough trials, and stops some afterwards."""
    curves = runpy.run_path(str(SCRIPT.with_name("curves.py")))
    kept = json.loads(curves["RECORDED"].read_text("utf-8"))
    found = curves["replay"](kept, curves["question"](kept["direction"]), level)
    assert found.runs == 20
    assert found.judged <= found.runs - (1 / level - 1)
    assert found.lost <= level * found.runs
    assert found.kept_lost == 0
    assert (found.stopped > 0) == (found.saved > 0) == (level >= 0.1)
