"""The verbs about a study's data: fetch it ahead of a run, and show where it lies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gitresearch import data as datasets
from gitresearch import folders
from gitresearch.cli import render
from gitresearch.cli.context import open_study, say
from gitresearch.cli.look import as_json, emit
from gitresearch.data import Prepared
from gitresearch.errors import GitResearchError
from gitresearch.hooks import Hook, export_hook
from gitresearch.workdir import Workdir


@click.group(short_help="Fetch the study's data, or show where it lies.")
def data() -> None:
    """Fetch the study's data, or show where it lies.

    The study's evaluator hook makes its data ready in a cache outside every repository, which all studies share. `run`
    asks it too, before its first trial.
    """


@data.command(short_help="Make the study's data ready, and print where it lies.")
@click.option(
    "--path",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Data of your own: check it first.",
)
@as_json
def fetch(path: Path | None, json_: bool) -> None:
    """Make the study's data ready, and print where it lies and its digest.

    What is there already is checked and not fetched again; after an interruption, say it again. Data that no package
    holds is named in study.toml: [evaluator.settings] data = "DIR".
    """
    with _hook(path) as hook:
        found = datasets.prepare(hook, folders.cache(), aloud=True)
    _tell(found, json_=json_)
    if path is not None:
        say(f'to train on it, write data = "{path.absolute()}" under [evaluator.settings] in study.toml')


@data.command(short_help="Show what data the study has, and where it lies.")
@as_json
def show(json_: bool) -> None:
    """Show what data the study has, where it lies and its digest, as it was when it was last made ready."""
    with _hook(None) as hook:
        found = datasets.recorded(hook, folders.cache())
    if found is None or not all(folder.is_dir() for folder in found.folders.values()):
        raise GitResearchError("the study's data is not here yet", "gitresearch data fetch")
    _tell(found, json_=json_)


@contextmanager
def _hook(path: Path | None) -> Iterator[Hook]:
    """The study's hook as its base commit holds it; of a study that has not begun, as the checked out commit does."""
    opened = open_study()
    asked = opened.study.evaluator
    if not asked.hook:
        raise GitResearchError(f"study {opened.study.name} has no evaluator hook, which brings data", "gitresearch run")
    settings = dict(asked.settings) | ({"data": str(path.absolute())} if path else {})
    work = Workdir(folders.cache() / "work")
    try:
        base = opened.base or opened.repo.head_commit()
        program = export_hook(opened.repo.export, base, asked.hook, work.folder("hook") / "files")
        yield Hook(program, settings, asked.hook_seconds)
    finally:
        work.close()


def _tell(found: Prepared, *, json_: bool) -> None:
    """What lies where, to stdout."""
    sizes = {name: datasets.size(folder) for name, folder in found.folders.items()}
    if json_:
        parts: dict[str, Any] = {name: {"path": str(folder), "files": sizes[name][0], "bytes": sizes[name][1]}
                                 for name, folder in found.folders.items()}  # fmt: skip
        return emit({**parts, "digest": found.digest})
    rows = [{"split": name, "bytes": f"{sizes[name][1]:,}", "files": sizes[name][0], "path": folder}
            for name, folder in found.folders.items()]  # fmt: skip
    click.echo(render.table(rows))
    click.echo(f"digest {found.digest or 'none'}")
    return None
