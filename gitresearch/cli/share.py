"""push, pull, clone: what moves a study between repositories. The git program does the transport."""

from pathlib import Path

import click

from gitresearch import sync
from gitresearch.cli.context import begun_study, open_repo, say
from gitresearch.moves import Report
from gitresearch.repo import Repo
from gitresearch.study import STUDY_FILE


def told(report: Report) -> None:
    for text in report.lines():
        say(text)


def derive_best(repo: Repo) -> None:
    """Point best/<study> at what the notes say, as every clone does for itself."""
    for name, base in repo.studies().items():
        if repo.read_file(base, STUDY_FILE) is None:
            continue
        best = begun_study(repo, name, base).kept().best
        if best and repo.best(name) != best.trial.oid:
            repo.set_best(name, best.trial.oid, "derived from the notes")


@click.command(short_help="Push trials, studies and notes to a remote.")
@click.argument("remote", default="origin")
def push(remote: str) -> None:
    """Push trials, studies and notes to REMOTE. Never forced; a plain `git push` carries none of the notes."""
    told(sync.push(open_repo(), remote))


@click.command(short_help="Fetch trials, studies and notes from a remote.")
@click.argument("remote", default="origin")
def pull(remote: str) -> None:
    """Fetch trials, studies and notes from REMOTE and bring this clone's lineage up to date."""
    repo = open_repo()
    told(sync.pull(repo, remote))
    derive_best(repo)


@click.command(short_help="Clone a repository with its trials, studies and notes.")
@click.argument("url")
@click.argument("directory", required=False, type=click.Path(path_type=Path))
def clone(url: str, directory: Path | None) -> None:
    """Clone URL into DIRECTORY with its trials, studies and notes."""
    dest = directory or Path(url.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git") or "study")
    told(sync.clone(url, dest))
    derive_best(Repo.open(dest))
