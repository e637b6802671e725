"""The verbs of trust: whose key signs here, and whether everything that is claimed follows from what is there."""

import click

from gitresearch.cli.context import open_repo


@click.command(short_help="Print the line that lists this clone as an evaluator.")
def key() -> None:
    """Print the line that lists this clone as an evaluator, for the study's allowed_signers.

    Outcomes measured here are signed by this clone's key, and `audit` takes them where the study's base commit lists
    it. On a further machine, before the study begins: gitresearch key >> allowed_signers, and commit.
    """
    click.echo(open_repo().signer_line())
