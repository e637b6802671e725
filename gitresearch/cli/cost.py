"""The verb that says what the search cost and what that bought."""

from dataclasses import asdict
from typing import Any

import click

from gitresearch.agents import Usage
from gitresearch.cli import render
from gitresearch.cli.context import open_study, prices_file, say
from gitresearch.cli.look import as_json, emit
from gitresearch.spending import Spent, confirmed_gains, tally


@click.command(short_help="Show what proposals cost, and what was gained.")
@as_json
def cost(json_: bool) -> None:
    """Show what proposals cost, by specialist, and what was gained.

    A gain is confirmed where it lies on the way to `best`; it is in the metric's units. Dollars are by the [[prices]]
    of the study or of prices.toml in the configuration folder, or as the agent told them. Turns that came to nothing
    count.
    """
    opened = open_study()
    found, lineage = tally(opened.repo.proposals(), opened.study.name), opened.lineage()
    gains = confirmed_gains(lineage)
    best, first = lineage.best, next(iter(lineage.baselines()), None)
    total = opened.study.objective.gain(best.score, first.score) if best and first and best.score and first.score else 0
    rows = {name: _row(spent, gains.get(name, 0.0)) for name, spent in sorted(found.specialists.items())}
    rows["all"] = _row(found.total, total)
    if found.unreadable:
        say(f"{found.unreadable} proposals notes can't be read and are not counted")
    if json_:
        trials = {oid: _usage(usage) for oid, usage in found.trials.items()}
        return emit({"specialists": rows, "trials": trials, "unreadable": found.unreadable})
    click.echo(render.table({"specialist": name, **_shown(row)} for name, row in rows.items()))
    if found.total.usage.tokens and not found.total.usage.dollars:
        say(f"no price was known when these tokens were used; for those to come, add [[prices]] to {prices_file()}")
    return None


def _row(spent: Spent, gain: float) -> dict[str, Any]:
    dollars = spent.usage.dollars
    return {
        "trials": spent.trials,
        "without_edit": spent.failed,
        **_usage(spent.usage),
        "dollars_per_trial": dollars / spent.trials if spent.trials else None,
        "confirmed_gain": gain,
        "dollars_per_gain": dollars / gain if gain > 0 else None,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return asdict(usage)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row in the words and the order that fit a terminal."""
    names = {
        "trials": "trials", "without_edit": "no edit", "calls": "calls", "tokens_in": "in", "tokens_cached": "cached",
        "tokens_out": "out", "tokens_reasoning": "reasoning", "repairs": "repairs", "seconds": "seconds",
        "dollars": "dollars", "dollars_per_trial": "$/trial", "confirmed_gain": "gain", "dollars_per_gain": "$/gain",
    }  # fmt: skip
    return {short: "" if row[name] is None else row[name] for name, short in names.items()}
