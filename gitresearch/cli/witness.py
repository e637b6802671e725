"""The verbs of a second look: reproduce measures a trial again, revoke takes an outcome back."""

import secrets
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import click

from gitresearch import folders, witness
from gitresearch.cli import render
from gitresearch.cli.audit import FOUND
from gitresearch.cli.context import Opened, open_study, say
from gitresearch.cli.look import as_json, emit, found
from gitresearch.cli.progress import choose_progress
from gitresearch.cli.work import attended, open_lab
from gitresearch.errors import GitResearchError
from gitresearch.evaluate import Evaluator
from gitresearch.lab import Lab
from gitresearch.loop import Stop
from gitresearch.outcome import REPRODUCE, Outcome, signed
from gitresearch.sandbox import Sandbox
from gitresearch.text import one_line, plural
from gitresearch.trial import Trial

AGREED = ("agrees", "no spread known")


@click.command(short_help="Measure trials again as a second witness.")
@click.argument("trials", nargs=-1, metavar="[TRIAL]...")
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="K", help="K trials, drawn from those not reproduced here."
)
@click.option("--seeds", type=click.IntRange(1, 1000), default=2, show_default=True, metavar="N", help="Runs a trial.")
@click.option("--allow-unsandboxed", is_flag=True, help="Run trials with limits only where no sandbox works.")
@click.option("--plain", is_flag=True, help="Plain lines instead of a live display.")
@as_json
def reproduce(
    trials: tuple[str, ...], sample: int | None, seeds: int, allow_unsandboxed: bool, plain: bool, json_: bool
) -> int:
    """Measure trials again as a second witness: exit 4 where one does not come to what its outcome says.

    Each is built from its commit in a fresh sandbox and runs on fresh seeds. Its mean is compared with the score by a
    two-sided t test at 1 %, with the spread of baseline, keeps and these runs; a failure agrees with the same failure.
    What is found is appended to the outcome if this clone measured the trial, else as an outcome beside the first. It
    changes no score, no status and no claim. ^C once finishes the trial that runs; twice stops now.
    """
    opened = open_study()
    if not opened.base:
        raise GitResearchError("the study has not begun, so there is nothing to reproduce", "gitresearch run")
    if bool(trials) == bool(sample):
        raise click.UsageError("name trials, or let --sample K draw some")
    wanted = [found(opened, text) for text in trials] or drawn(opened, sample or 0)
    me = opened.repo.evaluator_id()
    for trial in wanted:
        witness.claimed(trial, opened.repo.outcomes(trial.oid), me)  # what can't be done is said before anything runs
    progress = choose_progress(opened.study, plain=plain)
    lab, stop = open_lab(opened, progress, allow_unsandboxed), Stop()
    rows = attended(lambda: list(looked_at(lab, wanted, seeds, stop, json_=json_)), lab, stop, progress)
    if json_:
        emit(rows)
    if stop.asked:
        raise KeyboardInterrupt
    counted = [row for row in rows if row["verdict"] not in AGREED]
    say(f"{len(rows) - len(counted)} of {plural(len(rows), 'outcome')} reproduced")
    if any(row["verdict"] in ("differs", "failed") for row in counted):
        return FOUND
    if counted:
        raise GitResearchError(
            f"{counted[0]['trial'][:8]} was not measured: {counted[0]['verdict']}", "gitresearch status"
        )
    return 0


def drawn(opened: Opened, count: int) -> list[Trial]:
    """So many trials by chance, of those that claim something and have no run of a witness by this clone."""
    me, chosen = opened.repo.evaluator_id(), list[Trial]()
    records = [record for record in opened.repo.trials(opened.study.name) if record.summary]
    for record in secrets.SystemRandom().sample(records, len(records)):
        said = opened.repo.outcomes(record.trial.oid)
        try:
            witness.claimed(record.trial, said, me)
        except GitResearchError:
            continue
        if me not in said or not any(run.purpose == REPRODUCE for run in said[me].runs):
            chosen.append(record.trial)
        if len(chosen) == count:
            break
    if not chosen:
        raise GitResearchError("no trial is left that was not reproduced here", "gitresearch log")
    return chosen


def looked_at(lab: Lab, trials: list[Trial], seeds: int, stop: Stop, *, json_: bool) -> Iterator[dict[str, Any]]:
    """What each trial came to; said as soon as it is known."""
    for trial in trials:
        if stop.asked:
            return
        outcome = lab.reproduce(trial, seeds, stop.now)
        if outcome is None and stop.now.is_set():
            return
        row = row_of(trial, outcome)
        if not json_:
            click.echo(line_of(row))
        yield row


def row_of(trial: Trial, outcome: Outcome | None) -> dict[str, Any]:
    """A witness's word as data."""
    facts = witness.facts_of(outcome) if outcome else {}
    absent = "another process is at work on it" if outcome is None else "our own fault ended every run"
    return {"trial": trial.oid, **facts, "verdict": facts.get("verdict", absent)}


def line_of(row: dict[str, Any]) -> str:
    """Oid, claimed, found, the difference, the verdict."""
    parts = [row["trial"][:8]]
    if "status" in row:
        parts.append("claimed " + " ".join(render.cell(row[name]) for name in ("status", "claim") if name in row))
        parts.append(f"found {render.cell(row.get('score', row['ended']))} on {plural(row['n'], 'seed')}")
    if "score" in row:
        p = f", p = {row['p']:.2g}" if "p" in row else ""
        parts.append(f"{signed(row['score'] - row['claim'])}{p}")
    fine = row["verdict"] in AGREED
    return "  ".join([*parts, click.style(row["verdict"], fg="green" if fine else "red")])


@click.command(short_help="Take back an outcome that this clone recorded.")
@click.argument("trial", metavar="TRIAL")
@click.option("--reason", required=True, metavar="TEXT", help="What was wrong: the hook, the machine, the data.")
def revoke(trial: str, reason: str) -> None:
    """Take back an outcome that this clone recorded, for a fault that was not the trial's.

    Nothing is removed: the outcome gets a further version with status `invalid` and the reason, its runs stay, and head
    and best are what they are without it. It stays so. To measure the same files anew:
    gitresearch propose --operator replicate --parent TRIAL
    """
    opened = open_study()
    if not one_line(reason):
        raise click.UsageError("--reason says what was wrong")
    this = found(opened, trial)
    nowhere = Sandbox("none", "")  # nothing runs
    with closing(Evaluator(opened.repo, opened.study, opened.base, nowhere, folders.cache())) as evaluator:
        lab = Lab(opened.repo, opened.study, opened.base, evaluator)
        lab.revoke(this, reason)
    say(f"took back the outcome of {this.short}: {one_line(reason)}")
    for name, node in (("best", lab.lineage.best), ("head", lab.lineage.head)):
        if node is not None:
            say(f"{name}: {render.line(lab.lineage, node)}")
