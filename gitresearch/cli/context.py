"""What a verb works on: the repository, the study as its base commit holds it, and the lineage."""

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import click

from gitresearch import folders
from gitresearch.asking import Price, Prices
from gitresearch.errors import GitResearchError
from gitresearch.lineage import Lineage
from gitresearch.pinned import listed_signers, study_of
from gitresearch.repo import Record, Repo
from gitresearch.signing import allowed
from gitresearch.study import SIGNERS_FILE, STUDY_FILE, Study, StudyError, load
from gitresearch.tables import read
from gitresearch.text import one_line, printable


@dataclass(frozen=True)
class Opened:
    """A study in its repository. `base` is empty while the study has not begun."""

    repo: Repo
    study: Study
    base: str

    def lineage(self, records: Iterable[Record] | None = None) -> Lineage:
        """All trials, or these alone where the question needs no more: 100,000 take seconds to read."""
        records = self.repo.trials(self.study.name) if records is None else records
        return Lineage.of(self.study.objective, records)

    def kept(self) -> Lineage:
        """What best and head are chosen from, and the parents of those."""
        return self.lineage(self.repo.with_parents(self.repo.having(self.study.name, "baseline", "keep")))


def say(text: str) -> None:
    """Talk goes to stderr; stdout is for data."""
    click.echo(f"gitresearch: {text}", err=True)


def open_repo() -> Repo:
    directory, _ = click.get_current_context().obj
    if not directory.is_dir():
        raise GitResearchError(f"no such directory: {printable(str(directory))}", "gitresearch -C DIR")
    return Repo.open(directory)


def open_study(*, begin: bool = False) -> Opened:
    """The study meant: --study, else the checkout's study.toml, else the only one in the repository.

    With `begin`, a study that has no base yet gets one: the commit that is checked out, which must hold study.toml as
    it lies in the checkout. From then on the study is what that commit says.
    """
    _, wanted = click.get_current_context().obj
    repo = open_repo()
    begun = repo.studies()
    name = wanted or _checkout_name(repo) or (next(iter(begun)) if len(begun) == 1 else "")
    if name in begun:
        if begin:
            require_known(repo, name, begun[name])
        return begun_study(repo, name, begun[name])
    if wanted and _checkout_name(repo) != wanted:
        known = f"gitresearch --study {next(iter(begun))}" if begun else "gitresearch init"
        raise GitResearchError(f"there is no study {wanted!r} here", known)
    if not name and begun:
        raise GitResearchError("there are several studies here", f"gitresearch --study {' | '.join(begun)}")
    if not name:
        raise GitResearchError("there is no study here", "gitresearch init")
    study, base = _checked_out(repo, begin=begin)
    if begin:
        repo.pin_study(study.name, base)
    return Opened(repo, study, base if begin else "")


def require_known(repo: Repo, name: str, base: str) -> None:
    """A study may have come by a pull, and its hook runs here as the user: only one that stands in the history of what
    is checked out, or whoever may push a ref has his code run."""
    if not repo.in_history(base):
        why = f"study {name} begins from {base[:8]}, which is not in the history of what is checked out"
        raise GitResearchError(why, f"look at it: git diff HEAD {base[:8]}; and take it: git merge {base[:8]}")


def begun_study(repo: Repo, name: str, base: str) -> Opened:
    """A study as its base commit holds it."""
    study = study_of(repo, name, base)
    for who in repo.unbelieved(name):
        say(f"no outcome of {who} counts: its notes are signed by no key that the study lists; see gitresearch audit")
    return Opened(repo, study, base)


def _checkout_text(repo: Repo) -> str | None:
    if repo.workdir is None:
        return None
    try:
        return (repo.workdir / STUDY_FILE).read_text("utf-8")
    except OSError:
        return None
    except UnicodeDecodeError:
        raise StudyError(f"{STUDY_FILE} is no UTF-8 text", f"edit {STUDY_FILE}") from None


def _checkout_name(repo: Repo) -> str:
    text = _checkout_text(repo)
    return load(text).name if text is not None else ""


def _checked_out(repo: Repo, *, begin: bool) -> tuple[Study, str]:
    """The checkout's study and the commit to begin from."""
    text = _checkout_text(repo)
    if text is None:
        raise GitResearchError("there is no study here", "gitresearch init")
    study = load(text)
    if not begin:
        return study, ""
    base = repo.head_commit()
    committed = repo.read_file(base, STUDY_FILE)
    if committed is None or committed.decode("utf-8", "replace") != text:
        raise GitResearchError(
            f"a study begins from a commit, and {STUDY_FILE} differs from the one checked out",
            f"git add {STUDY_FILE} && git commit -m 'begin study {study.name}'",
        )
    _check_parts(repo, study, base)
    return study, base


def _check_parts(repo: Repo, study: Study, base: str) -> None:
    """Hook, knowledge, recipe and surfaces must be in the base commit: said before a second is spent."""
    listed_signers(repo, base)  # what can't be read is said while it can still be mended
    named = [("hook", study.evaluator.hook), *(("knowledge file", path) for path in study.knowledge)]
    for what, path in named:
        if path and repo.read_file(base, path) is None:
            hint = f"git add {path} && git commit, or edit {STUDY_FILE}"
            raise StudyError(f"the {what} {path} is not in commit {base[:8]}", hint)
    files = repo.files(base, study.recipe.folder)
    if not files:
        raise StudyError(f"the recipe's folder {study.recipe.root} is not in commit {base[:8]}", f"edit {STUDY_FILE}")
    from gitresearch.surface import Surface  # noqa: PLC0415  (look commands don't need it)

    for specialist in study.specialists:
        surface = Surface.of(specialist.surface)
        hint = f"edit its surface in {STUDY_FILE}"
        if not any(surface.touches(path) for path in files):
            raise StudyError(f"the surface of {specialist.name} matches no file of the recipe", hint)
        sources = {path: repo.blob(file.oid) for path, file in files.items() if surface.symbols_in(path)}
        if missing := surface.undefined(sources):
            raise StudyError(f"the surface of {specialist.name} names {missing[0]}, which no file defines", hint)


def warn_unlisted(opened: Opened) -> None:
    """Say ahead where an audit won't take what is measured here."""
    me = opened.repo.evaluator_id()
    if not allowed(listed_signers(opened.repo, opened.base), me, opened.repo.key.public):
        say(f"{SIGNERS_FILE} of the study does not list {me}, which signs here: elsewhere its outcomes count where "
            "gpg.ssh.allowedSignersFile, or audit --signers, names a file with this line: gitresearch key")  # fmt: skip


def changed_since(opened: Opened) -> bool:
    """Whether the checkout's study.toml is no longer the one the study runs on."""
    data = opened.repo.read_file(opened.base, STUDY_FILE)
    try:
        text = _checkout_text(opened.repo)
        if text is None or data is None or data.decode("utf-8", "replace") == text:
            return False
        return load(text).name == opened.study.name
    except StudyError:
        return True  # somebody is at work on it


def with_agent(
    study: Study, kind: str | None, model: str | None, base_url: str | None, command: str | None, no_lineage: bool,
    roster: str | None,
) -> Study:  # fmt: skip
    """The study with its roster, and with another agent for this run; the lineage records who proposed what. A flag
    that only one kind of agent has says which one is meant."""
    if command is not None and kind not in (None, "command"):
        raise click.UsageError(f"--command names a coding agent, and --agent says {kind}")
    study = study.enrolled(roster or "")
    agent = (without_lineage(study) if no_lineage else study).agent
    meant = "command" if command is not None else agent.kind
    if meant == "offline" and (model or base_url):
        meant = "openai"
    agent = replace(
        agent,
        kind=kind or meant,
        command=agent.command if command is None else command,
        model=model or agent.model,
        base_url=base_url or os.environ.get("OPENAI_BASE_URL", "") or agent.base_url,
    )
    if agent.kind == "openai" and not agent.model:
        raise GitResearchError("the openai agent needs a model", "gitresearch run --agent openai --model NAME")
    if agent.kind == "command" and not words_of(agent.command):
        raise GitResearchError("the command agent needs a command", "gitresearch run --command codex")
    return replace(study, agent=agent, prices=(*study.prices, *own_prices()))


def words_of(command: str) -> list[str]:
    """A command line's words."""
    try:
        return shlex.split(command)
    except ValueError as error:
        why = f"the command {one_line(command, 100)!r} can't be taken apart: {error}"
        raise GitResearchError(why, "gitresearch run --command codex") from None


def prices_file() -> Path:
    """Where a person keeps the prices of models for all studies."""
    return folders.config() / "prices.toml"


def own_prices() -> tuple[Price, ...]:
    """The prices in that file; a study's own come before them."""
    path = prices_file()
    try:
        return read(Prices, path.read_text("utf-8"), str(path)).prices
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise GitResearchError(f"{path} can't be read: {error}", f"mend {path}") from None


def without_lineage(study: Study) -> Study:
    """The control arm: agents see their parent's files, and nothing of other trials."""
    return replace(study, agent=replace(study.agent, lineage=False))
