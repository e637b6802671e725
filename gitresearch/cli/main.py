"""Entry point: the table of verbs, and the one boundary where errors become a line and an exit code.

A verb's module is imported when the verb is used, so that `--help` and shell completion cost click and nothing else.

Exit codes: 0 fine, 1 an error you can mend, 2 wrong usage, 3 our bug (with a saved report), 4 an audit found a problem
or a trial did not reproduce, 130 ^C.
"""

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

from gitresearch import __version__, folders
from gitresearch.errors import GitResearchError

# verb -> module under gitresearch.cli; the short helps are here so that `--help` imports none of them, and
# tests/test_cli.py holds them equal to what the verbs say.
VERBS: dict[str, tuple[str, str]] = {
    "init": ("init", "Make a study: in this repository, or a new one from a shipped recipe."),
    "data": ("data", "Fetch the study's data, or show where it lies."),
    "run": ("work", "Propose and evaluate until a budget ends."),
    "baseline": ("baseline", "Calibrate: run the baseline on seeds, tell the noise."),
    "propose": ("propose", "Make one trial, without evaluating it."),
    "evaluate": ("work", "Evaluate trials that have no outcome yet."),
    "log": ("look", "List trials, newest first."),
    "show": ("look", "Show one trial: hypothesis, outcome, runs, change."),
    "best": ("look", "Show the best confirmed trial and the head."),
    "status": ("look", "Show where the study stands."),
    "diff": ("look", "Show what a trial changed, or how two trials differ."),
    "cost": ("cost", "Show what proposals cost, and what was gained."),
    "stats": ("stats", "Show where evaluation time went: useful, wasted, saved."),
    "brief": ("look", "Print what a specialist would be shown."),
    "audit": ("audit", "Derive every claim again and tell what does not follow."),
    "reproduce": ("witness", "Measure trials again as a second witness."),
    "revoke": ("witness", "Take back an outcome that this clone recorded."),
    "export": ("export", "Print outcomes as signed statements for other tools."),
    "key": ("audit", "Print the line that lists this clone as an evaluator."),
    "guard": ("guard", "Install git hooks that refuse forged or rewritten trials and notes."),
    "receive": ("guard", "What those hooks call: check the ref updates on stdin."),
    "doctor": ("doctor", "Tell which sandbox holds here, and what works in it."),
    "mcp": ("mcp", "Serve the study's tools to an agent over MCP."),
    "push": ("share", "Push trials, studies and notes to a remote."),
    "pull": ("share", "Fetch trials, studies and notes from a remote."),
    "clone": ("share", "Clone a repository with its trials, studies and notes."),
    "completion": ("completion", "Print the completion script for a shell."),
}


class Verbs(click.Group):
    """A click group that imports a verb's module on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"gitresearch.cli.{VERBS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but a mistyped verb names the nearest."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415  (only a typo pays for it)

            near = difflib.get_close_matches(args[0], VERBS, 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"no command {args[0]!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, short) for verb, (_, short) in VERBS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-C", "directory", type=click.Path(path_type=Path), default=Path(), metavar="DIR", help="Run as if in DIR."
)
@click.option("--study", metavar="NAME", envvar="GITRESEARCH_STUDY", help="The study, where there are several.")
@click.version_option(__version__, prog_name="gitresearch", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, directory: Path, study: str | None) -> None:
    """Auto research inside git.

    A trial is a branch, its commit message the hypothesis, its git note the outcome. `git log` reads it all.
    """
    ctx.obj = (directory, study)


def main(args: Sequence[str] | None = None) -> None:
    """Run and exit. A SIGTERM is taken as ^C: what was started is ended, and what was written is cleared away."""
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Every error ends here, as one sentence on stderr."""
    try:
        result = cli.main(args=args, prog_name="gitresearch", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.UsageError as error:
        error.show()
        return 2
    except click.ClickException as error:
        error.show()
        return 1
    except (KeyboardInterrupt, click.Abort):
        click.echo("gitresearch: stopped", err=True)
        return 130
    except (BrokenPipeError, SystemExit):
        # The reader (head, less) went away, for which click exits; keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except GitResearchError as error:
        click.echo(f"gitresearch: {error.message}", err=True)
        if error.hint:
            click.echo(f"  try: {error.hint}", err=True)
        return error.exit_code
    except Exception as error:
        click.echo(f"gitresearch: this is a bug of ours: {type(error).__name__}; nothing recorded was lost", err=True)
        click.echo(f"  try: send us {_save_report()}", err=True)
        return 3


def _save_report() -> str:
    """Write versions, command and traceback to a file laid out for an issue; its path."""
    import platform  # noqa: PLC0415
    import time  # noqa: PLC0415
    import traceback  # noqa: PLC0415

    state = folders.state()
    text = (
        f"gitresearch {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"command: {' '.join(sys.argv[1:])}\n\n{traceback.format_exc()}"
    )
    try:
        state.mkdir(parents=True, exist_ok=True)
        path = state / f"report-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        path.write_text(text)
    except OSError:
        click.echo(text, err=True)
        return "the lines above"
    return str(path)
