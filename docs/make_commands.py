"""Print docs/commands.md from the commands themselves: `make docs`. A test holds the file equal to what this prints."""

import sys
from pathlib import Path

import click

from gitresearch.cli.main import cli

HEAD = """\
# Commands

Written by `make docs` from the commands themselves; don't edit it by hand. `git research COMMAND` is the same as
`gitresearch COMMAND`. Talk goes to stderr, data to stdout.
"""


def page() -> str:
    """The whole page: the program's own options, then every command in the order of `--help`."""
    top = click.Context(cli, info_name="gitresearch")
    parts = [HEAD, _about(cli, top)]
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        if command is None or command.hidden:
            continue
        parts.append(f"## {name}\n")
        context = click.Context(command, info_name=name, parent=top)
        parts.append(_about(command, context))
        for below, part in getattr(command, "commands", {}).items():
            parts.append(_about(part, click.Context(part, info_name=below, parent=context)))
    return "\n".join(parts).rstrip() + "\n"


def _about(command: click.Command, context: click.Context) -> str:
    """Usage, the help text, and a list of options."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    paragraphs = (command.help or command.short_help or "").replace("\b\n", "").strip().split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    lines = [f"    {usage}\n", f"{text}\n"]
    records = [
        parameter.get_help_record(context) for parameter in command.params if isinstance(parameter, click.Option)
    ]
    lines += [f"- `{names}`: {' '.join(told.split())}" for names, told in filter(None, records)]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page to stdout, or with --check say whether docs/commands.md is that page."""
    if sys.argv[1:] == ["--check"]:
        same = (Path(__file__).parent / "commands.md").read_text("utf-8") == page()
        sys.exit(0 if same else "docs/commands.md is out of date; try: make docs")
    sys.stdout.write(page())


if __name__ == "__main__":
    main()
