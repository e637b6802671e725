"""The gate in front of a shared repository, and in front of this one: what git's hooks call, and putting them there."""

import os
import shlex
import sys
from pathlib import Path

import click

from gitresearch import share
from gitresearch.cli.context import open_repo, say
from gitresearch.errors import GitResearchError
from gitresearch.gitcmd import Git
from gitresearch.guard import Update, check
from gitresearch.repo import Repo
from gitresearch.text import printable

FOUND = 4  # the exit code where something does not follow: a hook tells it from a program that could not run
SHOWN = 20
MARK = "# gitresearch guard"
CALL = "| gitresearch receive"
ZERO = "0" * 40


@click.command(short_help="Install git hooks that refuse forged or rewritten trials and notes.")
def guard() -> None:
    """Install git hooks that refuse forged or rewritten trials and notes.

    In a bare repository, pre-receive: a push that moves or deletes trials, rewrites or forges notes or breaks a
    surface is refused as a whole. In a clone, pre-push asks the same before anything is sent, and
    reference-transaction keeps trials and notes from being rewritten by hand. Hooks of others are left as they are.
    """
    repo = open_repo()
    names = ("pre-push", "reference-transaction") if repo.workdir else ("pre-receive",)
    folder = _hooks_folder(repo)
    for name in names:
        _refuse_others(folder / name)
    for name in names:
        _put(folder / name, (share.git_hooks() / name).read_text("utf-8").replace(CALL, f"| {_ourselves()} receive"))
    say(f"{' and '.join(names)} guard {folder.parent}")


def _hooks_folder(repo: Repo) -> Path:
    """Where git looks for this repository's hooks."""
    told = Git(repo.git_dir, repo.git_dir).get("rev-parse", "--git-path", "hooks").removesuffix("\n")
    folder, own = (repo.git_dir / told).resolve(), (repo.common_dir / "hooks").resolve()
    if folder != own:
        why = f"core.hooksPath names {folder}, which may be for other repositories too"
        raise GitResearchError(why, f"call these hooks from yours: ls {share.git_hooks()}")
    return folder


def _refuse_others(path: Path) -> None:
    if path.is_symlink() or (path.exists() and MARK not in path.read_text("utf-8", "replace")):
        raise GitResearchError(
            f"another hook is there: {path}",
            f'call ours from it: sh {shlex.quote(str(share.git_hooks() / path.name))} "$@"',
        )


def _ourselves() -> str:
    """This program as the shell calls it from anywhere: a server's git has another PATH, and the folder that a hook
    runs in must lend no module."""
    return shlex.join([sys.executable, "-P", "-c", "from gitresearch.cli.main import main; main()"])


def _put(path: Path, text: str) -> None:
    try:
        _write(path, text)
    except OSError as error:
        raise GitResearchError(f"can't write {path}: {error.strerror}", f"ls -ld {path.parent}") from None


def _write(path: Path, text: str) -> None:
    """Whole or not at all: a push may run the hook meanwhile."""
    path.parent.mkdir(exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    staged.write_text(text, "utf-8")
    staged.chmod(0o755)
    staged.replace(path)


@click.command(short_help="What those hooks call: check the ref updates on stdin.")
@click.option("--hook", type=click.Choice(["pre-receive", "pre-push", "reference-transaction"]), default="pre-receive",
              show_default=True, help="The hook whose lines are on stdin.")  # fmt: skip
def receive(hook: str) -> int:
    """Check the updates of refs that git tells its hooks on stdin: exit 4 and a line a finding where anything is wrong.

    Refs that are not gitresearch's pass. Objects of a push that git holds back until its hooks have run are read where
    they lie.
    """
    repo = _repository()
    lines = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\n")
    try:
        updates = [_update(repo, hook, line) for line in lines if line]
    except ValueError:
        raise GitResearchError(f"these are no lines of a {hook} hook", "gitresearch guard") from None
    found = check(repo, updates, deep=hook != "reference-transaction")
    for one in found[:SHOWN]:
        say(printable(str(one)))
    if len(found) > SHOWN:
        say(f"and {len(found) - SHOWN} more")
    return FOUND if found else 0


def _repository() -> Repo:
    """The repository that git runs a hook for, with the objects that it has not let in yet."""
    told = os.environ.get("GIT_DIR")
    repo = Repo.open(Path(told), durable=False, cache=False) if told else open_repo()
    more = os.environ.get("GIT_ALTERNATE_OBJECT_DIRECTORIES", "").split(os.pathsep)
    repo.also_read(*(Path(one) for one in (os.environ.get("GIT_OBJECT_DIRECTORY", ""), *more) if one))
    return repo


def _update(repo: Repo, hook: str, line: str) -> Update:
    """One line of a hook's stdin."""
    if hook == "pre-push":  # local ref, local oid, remote ref, remote oid; the first may be a revision with blanks
        _, new, ref, old = line.rsplit(" ", 3)
    else:
        old, new, ref = line.split(" ", 2)
    if hook == "reference-transaction":  # its old value is zero for whoever did not care: what is there counts
        old = repo.ref(ref) or ZERO
    return Update(old.replace(ZERO, ""), new.replace(ZERO, ""), ref)
