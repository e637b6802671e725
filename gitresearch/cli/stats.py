"""The verb that says where evaluation time went."""

from dataclasses import asdict
from typing import Any

import click

from gitresearch.cli import render
from gitresearch.cli.context import open_study, say
from gitresearch.cli.look import as_json, emit
from gitresearch.lineage import Node
from gitresearch.outcome import STATUSES
from gitresearch.text import one_line, plural
from gitresearch.timing import REPEAT, Times, repeats, timing


@click.command(short_help="Show where evaluation time went: useful, wasted, saved.")
@as_json
def stats(json_: bool) -> None:
    """Show where evaluation time went: useful, wasted, saved.

    Useful are the seconds of trials that got a rank (baseline, keep, discard) or ended early because they could not
    win, wasted those of all others, in wall seconds. Saved is what early ends spared, by each run's own record and the
    study's clock; by `repeat`, what programs would have taken that were tried before and so never became trials.
    """
    opened = open_study()
    records = [record for record in opened.repo.trials(opened.study.name) if record.summary]
    found = timing((Node(record.trial, record.summary), note) for record, note in opened.repo.notes_of(records))
    if spared := repeats(opened.repo.proposals().values(), opened.study.name):
        found.reasons[REPEAT] = spared
        found.total.saved += spared
    specialists = {name: row(times) for name, times in sorted(found.specialists.items())} | {"all": row(found.total)}
    statuses = {name: row(found.statuses[name]) for name in STATUSES if name in found.statuses}
    if json_:
        checked = {"let_on": found.let_on, "kept": found.let_on_kept}
        return emit({"specialists": specialists, "statuses": statuses, "saved": found.reasons, "checked": checked})
    if not records:
        return say("no outcomes yet; try: gitresearch run")
    click.echo(render.table({"status": name, **shown(told)} for name, told in statuses.items()))
    click.echo()
    click.echo(render.table({"specialist": name, **shown(told)} for name, told in specialists.items()))
    for reason, seconds in sorted(found.reasons.items()):
        click.echo(f"saved by {one_line(reason, 60)}: {seconds:.0f} s")
    if found.let_on:
        click.echo(f"of {plural(found.let_on, 'run')} let on against their curve, {found.let_on_kept} came to be kept")
    return None


def row(times: Times) -> dict[str, Any]:
    return asdict(times) | {"wasted_share": times.share}


def shown(told: dict[str, Any]) -> dict[str, Any]:
    """A row for people: whole seconds, and the share in percent."""
    seconds = {f"{name} s": round(told[name]) for name in ("useful", "wasted", "saved")}
    return {"trials": told["trials"], **seconds, "wasted": f"{told['wasted_share']:.0%}"}
