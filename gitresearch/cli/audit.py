"""The verbs of trust: whose key signs here, and whether everything that is claimed follows from what is there."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import click

from gitresearch import folders
from gitresearch.audit import Report
from gitresearch.audit import audit as audit_of
from gitresearch.cli.context import Opened, open_repo, open_study, say
from gitresearch.cli.look import as_json, emit
from gitresearch.errors import GitResearchError
from gitresearch.pinned import listed_signers, read_signers
from gitresearch.repo import Repo
from gitresearch.study import SIGNERS_FILE
from gitresearch.text import plural, printable

FOUND = 4  # the exit code where something does not follow


@click.command(short_help="Print the line that lists this clone as an evaluator.")
def key() -> None:
    """Print the line that lists this clone as an evaluator, for the study's allowed_signers.

    Outcomes measured here are signed by this clone's key, and `audit` takes them where the study's base commit lists
    it. On a further machine, before the study begins: gitresearch key >> allowed_signers, and commit.
    """
    click.echo(open_repo().signer_line())


@click.command(short_help="Derive every claim again and tell what does not follow.")
@as_json
@click.option(
    "--signers", "more", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="Believe these signers too, as in ssh-keygen's allowed signers.",
)  # fmt: skip
def audit(json_: bool, more: Path | None) -> int:
    """Derive every claim again and tell what does not follow: exit 4 where there is anything.

    Offline, from the objects alone: each notes commit signed by an evaluator that the study's base commit lists, one
    note added a commit, no run lost; each trial's parents, files and surface; each outcome bound to its commit, base,
    hook and data; each score, status, keep and claim from its runs. What an earlier audit here saw must still be there.
    """
    opened = open_study()
    opened = replace(opened, repo=Repo.open(opened.repo.git_dir, cache=False))  # a cache is anybody's word
    if not opened.base:
        raise GitResearchError("the study has not begun, so it claims nothing", "gitresearch run")
    known = listed_signers(opened.repo, opened.base) + (read_signers(more.read_bytes(), str(more)) if more else [])
    if not known:
        say(f"the study lists no signers in {SIGNERS_FILE}: whoever measured, nothing here says whose word counts")
    memory = seen_file()
    report = audit_of(opened.repo, opened.study, opened.base, known, seen(memory, opened))
    remember(memory, opened, report)
    if json_:
        emit(asdict(report))
    else:
        for one in report.findings:
            click.echo(printable(str(one)))
    if report.refuted:
        say(f"measured again, {', '.join(report.refuted)} came to something else: gitresearch show TRIAL")
    looked = f"{plural(report.trials, 'trial')}, {plural(report.outcomes, 'outcome')}, {report.commits} notes commits"
    say(f"{plural(len(report.findings), 'finding')} in {looked} by {', '.join(report.evaluators) or 'nobody'}")
    return FOUND if report.findings else 0


def seen_file() -> Path:
    """Where the tips that audits walked are remembered: outside the repository, whose owner may be the one to doubt."""
    return folders.state() / "seen.json"


def seen(memory: Path, opened: Opened) -> Mapping[str, str]:
    """The tips of this repository's notes refs at the last audit."""
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads(memory.read_text("utf-8")).get(str(opened.repo.common_dir), {})
        return {str(ref): str(tip) for ref, tip in found.items()}
    return {}


def remember(memory: Path, opened: Opened, report: Report) -> None:
    """Keep the tips that were walked without a finding; a tip that is gone stays remembered, and stays a finding."""
    known: dict[str, dict[str, str]] = {}
    with suppress(OSError, ValueError):
        known = dict(json.loads(memory.read_text("utf-8")))
    known[str(opened.repo.common_dir)] = {**seen(memory, opened), **report.tips}
    with suppress(OSError):  # a home that can't be written costs the memory and no audit
        memory.parent.mkdir(parents=True, exist_ok=True)
        staged = memory.with_suffix(f".{os.getpid()}")
        staged.write_text(json.dumps(known, indent=1), "utf-8")
        staged.replace(memory)
