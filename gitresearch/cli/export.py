"""The verb that says outcomes in another tool's form: export."""

import json

import click

from gitresearch.cli.context import open_study, say
from gitresearch.cli.look import found
from gitresearch.errors import GitResearchError
from gitresearch.intoto import envelope, statement
from gitresearch.repo import Repo
from gitresearch.repo.refs import OUTCOMES
from gitresearch.text import plural


@click.command(short_help="Print outcomes as signed statements for other tools.")
@click.argument("trials", nargs=-1, metavar="[TRIAL]...")
@click.option(
    "--format", type=click.Choice(["intoto"]), default="intoto", show_default=True, expose_value=False, help="The form."
)
def export(trials: tuple[str, ...]) -> None:
    """Print outcomes as signed statements for other tools: one line of JSON each, of the given trials or of all.

    `intoto` is an in-toto Statement v1 about the trial's commit and tree, in a DSSE envelope that this clone's key
    signs. A clone signs its own word alone: for the outcomes of others, ask their clones.
    """
    opened = open_study()
    if not opened.base:
        raise GitResearchError("the study has not begun, so it has no outcomes", "gitresearch run")
    me, repo = opened.repo.evaluator_id(), opened.repo
    wanted = [found(opened, text) for text in trials] or [record.trial for record in repo.trials(opened.study.name)]
    written, others, recorded = 0, 0, recorded_in(repo, me)
    for trial in wanted:
        said = repo.outcomes(trial.oid)
        if me in said:
            made = statement(trial, said[me], me, recorded.get(trial.oid, ""))
            click.echo(json.dumps(envelope(repo.key, made)))
            written += 1
        others += len(said.keys() - {me})
    left = f"; left out {plural(others, 'outcome')} of other evaluators" if others else ""
    say(f"{plural(written, 'statement')} by {me}{left}")


def recorded_in(repo: Repo, evaluator: str) -> dict[str, str]:
    """The notes commit that holds the latest version of each outcome of an evaluator, by trial."""
    _, tip = repo.notes_refs().get(OUTCOMES + evaluator, ("", ""))
    return {oid: link.oid for link in repo.chain(tip) for oid in link.notes} if tip else {}
