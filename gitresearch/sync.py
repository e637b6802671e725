"""push, pull and clone: trials, studies and notes between repositories, by the git program.

Plain pushes and clones carry no notes, so a clone without this holds hypotheses and no results. Both directions are one
rule: list both sides, fetch the commits it takes to compare them (and no refs), and move only what is new or strictly
ahead (moves.py), by compare-and-swap. Nothing is ever forced, and the number of git processes does not grow with the
trials.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from gitresearch.errors import GitResearchError
from gitresearch.gitcmd import Git, Said, Say, explain, to_stderr, without_password
from gitresearch.moves import NOTES, SPACES, TRIALS, Plan, Report, Side, compare
from gitresearch.repo import Repo
from gitresearch.text import one_line, printable

_ATTEMPTS = 3  # others push, and a running evaluator writes, while we compare
_LOST_RACE = re.compile(r"fetch first|non-fast-forward|stale info|failed to update ref|atomic transaction failed")


def push(repo: Repo, remote: str = "origin", say: Say = to_stderr) -> Report:
    """Give the remote every trial, study and note that it lacks. Nothing on it is overwritten."""
    git, name = _open(repo, remote, say)
    for _ in range(_ATTEMPTS):
        here, there = _both(git, name)
        if not here:
            raise GitResearchError("there is nothing to push yet", "gitresearch run")
        _fetch(git, name, (there[ref] for ref, oid in here.items() if there.get(ref, oid) != oid))
        plan = compare(git, here, there, Side(name, "push", repo.evaluator_id(), same_key=repo.same_key))
        if not plan.moves:
            return plan.report("pushed", name)
        said = _send(git, name, plan)
        if said.code == 0:
            return plan.report("pushed", name)
        if "hook declined" in said.out or not _LOST_RACE.search(said.out):
            break
    raise _refused(said, name)


def pull(repo: Repo, remote: str = "origin", say: Say = to_stderr) -> Report:
    """Take every trial, study and note that this repository lacks. `best` is then the caller's to derive."""
    git, name = _open(repo, remote, say)
    return _pull(git, Side(name, "pull", repo.evaluator_id(), same_key=repo.same_key))


def clone(url: str, dest: Path, say: Say = to_stderr) -> Report:
    """`git clone`, and everything a plain clone leaves behind. Nothing is made where the URL holds no study."""
    _require_plain(url)
    if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise GitResearchError(f"{dest} is there already", f"gitresearch -C {dest} pull")
    nowhere = Git(None, Path(), say)
    shown = without_password(url)
    held = nowhere.talk("ls-remote", "--refs", "--", url, *(f"{space}*" for space in SPACES))
    if held.code:
        raise explain(held, shown)
    if not held.out:
        raise GitResearchError(f"{shown} holds no study", f"git clone {shown} and gitresearch init in it")
    # A plain `git fetch` shall not list every trial a second time under refs/remotes/.
    skip = f"remote.origin.fetch=^{TRIALS}*"
    show = f"notes.displayRef={NOTES}*"
    said = nowhere.talk("clone", "--quiet", "--origin=origin", "-c", skip, "-c", show, "--", url, str(dest))
    if said.code:
        raise explain(said, shown)
    git = Git(dest.absolute() / ".git", dest.absolute(), say)
    doubled = git.get("for-each-ref", "--format=delete %(refname)", "refs/remotes/origin/trial/")
    git.get("update-ref", "--stdin", lines=doubled.splitlines())
    return replace(_pull(git, Side("origin", "pull", "")), verb="cloned", remote=shown)


def _pull(git: Git, side: Side) -> Report:
    remote = side.remote
    for _ in range(_ATTEMPTS):
        checked_out: set[str] = set()
        here, there = _both(git, remote, checked_out)
        if not there:
            raise GitResearchError(f"{remote} holds no study yet", f"gitresearch push {remote}")
        _fetch(git, remote, (oid for ref, oid in there.items() if here.get(ref) != oid))
        plan = compare(git, there, here, replace(side, checked_out=frozenset(checked_out)))
        orders = [f"update {m.ref} {m.new} {m.old}" if m.old else f"create {m.ref} {m.new}" for m in plan.moves]
        said = git.ask("update-ref", "-m", f"pull: from {remote}", "--stdin", lines=orders)
        if said.code == 0:
            return plan.report("pulled", remote)
    raise GitResearchError(f"the refs here could not be moved: {said.complaint}", f"gitresearch pull {remote}")


def _open(repo: Repo, remote: str, say: Say) -> tuple[Git, str]:
    """The repository's git and the remote, once it is sure that both are fit for it."""
    _require_plain(remote)
    git = Git(repo.git_dir, repo.workdir or repo.git_dir, say)
    if (repo.common_dir / "shallow").exists():
        raise GitResearchError("this clone is shallow: its lineage is cut off", f"git fetch --unshallow {remote}")
    urls = _remotes(git)
    if remote not in urls:
        if not urls:
            raise GitResearchError("this repository has no remote", f"git remote add {remote} URL")
        others = " | ".join(printable(name) for name in urls)
        raise GitResearchError(
            f"there is no remote {printable(remote)!r}; there is {others}", f"git remote add {remote} URL"
        )
    for url in urls[remote]:
        _require_plain(url)
    return git, remote


def _remotes(git: Git) -> dict[str, list[str]]:
    """The URLs of every remote, by name."""
    urls: dict[str, list[str]] = {}
    for entry in git.ask("config", "-z", "--get-regexp", r"^remote\..*\.(push)?url$").out.split("\0"):
        key, _, url = entry.partition("\n")
        if key:
            urls.setdefault(key.removeprefix("remote.").rpartition(".")[0], []).append(url)
    return urls


def _require_plain(where: str) -> None:
    """Refuse what git would take for an option, such as `--upload-pack=COMMAND`."""
    if not where or where.startswith("-"):
        raise GitResearchError(f"{printable(where)!r} is no remote and no URL", "git remote -v")


def _both(git: Git, remote: str, checked_out: set[str] | None = None) -> tuple[dict[str, str], dict[str, str]]:
    """Our refs and the remote's; `checked_out` takes those of ours that are."""
    said = git.talk("ls-remote", "--refs", "--", remote, *(f"{space}*" for space in SPACES))
    if said.code:
        raise explain(said, remote)
    there = {ref: oid for oid, ref in (line.split("\t", 1) for line in said.out.splitlines())}
    here = {}
    for line in git.get("for-each-ref", "--format=%(objectname) %(refname) %(worktreepath)", *SPACES).splitlines():
        oid, ref, worktree = line.split(" ", 2)
        here[ref] = oid
        if worktree and checked_out is not None:
            checked_out.add(ref)
    return here, there


def _fetch(git: Git, remote: str, oids: Iterable[str]) -> None:
    """Fetch commits and no refs: git writes nothing that names them before we have compared."""
    wanted = sorted(set(oids))
    if not wanted:
        return
    said = git.talk("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--refmap=", "--no-recurse-submodules",
                    "--stdin", "--", remote, lines=wanted)  # fmt: skip
    if said.code:
        raise explain(said, remote)


def _send(git: Git, remote: str, plan: Plan) -> Said:
    """One push, all or nothing where the server can do that."""
    specs = [f"{TRIALS}*:{TRIALS}*"] if any(move.ref.startswith(TRIALS) for move in plan.moves) else []
    specs += [f"^{left.ref}" for left in plan.left if specs and left.ref.startswith(TRIALS)]
    specs += [f"{move.ref}:{move.ref}" for move in plan.moves if not move.ref.startswith(TRIALS)]
    words = ("--porcelain", "--no-follow-tags", "--recurse-submodules=no", "--", remote, *specs)
    said = git.talk("push", "--atomic", *words)
    return git.talk("push", *words) if "does not support --atomic" in said.err else said


def _refused(said: Said, remote: str) -> GitResearchError:
    """Why a push failed: what the server answered for a ref if it came to that, else how the connection broke."""
    answers = [line.split("\t")[-1] for line in said.out.splitlines() if line.startswith("!")]
    if not answers:
        return explain(said, remote)
    told = next((line for line in answers if "atomic" not in line), answers[0])
    words = " ".join(
        line.removeprefix("remote:").strip() for line in said.err.splitlines() if line.startswith("remote:")
    )
    why = one_line(
        f"{told.removeprefix('[remote rejected] ').removeprefix('[rejected] ').strip('()')}: {words}".rstrip(": ")
    )
    return GitResearchError(f"{remote} rejected the push: {why}", f"git push --dry-run {remote} '{TRIALS}*:{TRIALS}*'")
