"""`gitresearch completion`: the script that makes a shell complete verbs and flags."""

import click
from click.shell_completion import get_completion_class

from gitresearch.cli.main import cli
from gitresearch.errors import GitResearchError


@click.command(short_help="Print the completion script for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL: eval "$(gitresearch completion bash)" in your shell's start-up file."""
    made = get_completion_class(shell)
    if made is None:
        raise GitResearchError(f"no completion for {shell}", "gitresearch completion bash")
    click.echo(made(cli, {}, "gitresearch", "_GITRESEARCH_COMPLETE").source())
