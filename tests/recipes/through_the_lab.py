"""One trial's way through the lab, beside a baseline that is on record: what the tables of labels share."""

import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from gitresearch.evaluate import Evaluator
from gitresearch.lab import Lab
from gitresearch.outcome import Outcome
from gitresearch.repo import Repo
from gitresearch.sandbox import Sandbox
from gitresearch.study import Study
from tests.build import add_trial, record


def strongest() -> Sandbox:
    """Bubblewrap where it is installed."""
    program = shutil.which("bwrap")
    return Sandbox("bubblewrap", "bubblewrap", program) if program else Sandbox("none", "limits only")


def assessed(repo: Repo, study: Study, box: Sandbox, cache: Path, edits: Mapping[str, bytes], best: float) -> Outcome:
    """The outcome of a trial that makes these edits, in a study whose baseline scored `best`."""
    base = repo.head_commit()
    repo.pin_study(study.name, base)
    head = {"metric": study.objective.metric, "n": study.seeds.baseline, "sd": 0.01}
    record(repo, repo.make_baseline(study.name, base), best, "baseline", **head)
    trial = add_trial(repo, "try it", [base], edits, study=study.name)
    with closing(Evaluator(repo, study, base, box, cache)) as evaluator:
        evaluator.prepare()
        found = Lab(repo, study, base, evaluator).assess(trial)
    assert found is not None
    return found
