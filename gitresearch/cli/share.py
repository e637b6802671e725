"""push, pull, clone: what moves a study between repositories. The git program does the transport."""

from pathlib import Path

import click

from gitresearch import sync
from gitresearch.cli.context import open_repo, say
from gitresearch.lineage import Lineage, Node
from gitresearch.repo import Repo
from gitresearch.study import STUDY_FILE, load


def told(report: sync.Report) -> None:
    for text in report.lines():
        say(text)


def derive_best(repo: Repo) -> None:
    """Point best/<study> at what the notes say, as every clone does for itself."""
    for name, base in repo.studies().items():
        data = repo.read_file(base, STUDY_FILE)
        if data is None:
            continue
        study = load(data.decode("utf-8", "replace"), f"{base[:8]}:{STUDY_FILE}")
        lineage = Lineage(study.objective, (Node(r.trial, r.summary, r.broken) for r in repo.trials(name)))
        if lineage.best and repo.best(name) != lineage.best.trial.oid:
            repo.set_best(name, lineage.best.trial.oid, "derived from the notes")


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
