"""The replay of published records: what each rule saves, on a record of a few made-up trials."""

import runpy
import subprocess
import sys
from pathlib import Path

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
