"""push, pull and clone: trials, studies and notes between repositories, by the git program.

Plain pushes and clones carry no notes, so a clone without this holds hypotheses and no results. Both directions are one
rule: list both sides, fetch the commits it takes to compare them (and no refs), and move only what is new or strictly
ahead, by compare-and-swap. Nothing is ever forced: a trial is what its name says, a notes ref has one writer, and
`best` is derived from the notes by every clone for itself. The number of git processes does not grow with the trials.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from gitresearch.errors import FormatError, GitResearchError
from gitresearch.gitcmd import Git, Said, Say, explain, to_stderr, without_password
from gitresearch.repo import Repo
from gitresearch.text import one_line, printable
from gitresearch.trial import BranchName

TRIALS = "refs/heads/trial/"
BEST = "refs/heads/best/"
STUDIES = "refs/gitresearch/studies/"
NOTES = "refs/notes/gitresearch/"
SPACES = (TRIALS, BEST, STUDIES, NOTES)
SHOWN = 10
_ATTEMPTS = 3  # others push, and a running evaluator writes, while we compare
_NAMED = re.compile(r"refs/(heads/best|gitresearch/studies)/[a-z0-9][a-z0-9_-]{0,63}")
_NOTED = re.compile(r"refs/notes/gitresearch/(?:outcomes|proposals)/([a-z0-9](?:[a-z0-9-]{0,78}[a-z0-9])?)")
_LOST_RACE = re.compile(r"fetch first|non-fast-forward|stale info|failed to update ref|atomic transaction failed")

Refs = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Left:
    """A ref that was not moved, and why."""

    ref: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """What moved: trials and studies that are new on the receiving side, how many notes commits, what stayed put."""

    verb: str
    remote: str
    trials: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()
    notes: int = 0
    best: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()

    def lines(self) -> list[str]:
        """The report for people: one line of what moved, one for each ref left alone."""
        counts = ((len(self.studies), "study", "studies"), (len(self.trials), "trial", "trials"),
                  (self.notes, "notes commit", "notes commits"), (len(self.best), "best", "best"))  # fmt: skip
        told = ", ".join(f"{n} {one if n == 1 else many}" for n, one, many in counts if n)
        towards = "to" if self.verb == "pushed" else "from"
        lines = [f"{self.verb} {told} {towards} {self.remote}" if told else f"nothing new {towards} {self.remote}"]
        lines += [f"left alone: {_short(printable(left.ref))}: {left.why}" for left in self.left[:SHOWN]]
        return lines if len(self.left) <= SHOWN else [*lines, f"and {len(self.left) - SHOWN} more left alone"]


def push(repo: Repo, remote: str = "origin", say: Say = to_stderr) -> Report:
    """Give the remote every trial, study and note that it lacks. Nothing on it is overwritten."""
    git, name = _open(repo, remote, say)
    for _ in range(_ATTEMPTS):
        here, there = _both(git, name)
        if not here:
            raise GitResearchError("there is nothing to push yet", "gitresearch run")
        _fetch(git, name, (there[ref] for ref, oid in here.items() if there.get(ref, oid) != oid))
        plan = _compare(git, here, there, _Side(name, "push", repo.evaluator_id(), same_key=repo.same_key))
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
    return _pull(git, _Side(name, "pull", repo.evaluator_id(), same_key=repo.same_key))


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
    return replace(_pull(git, _Side("origin", "pull", "")), verb="cloned", remote=shown)


@dataclass(frozen=True, slots=True)
class _Side:
    """What comparing needs to know besides the refs: the remote, the direction and who we are."""

    remote: str
    verb: str
    evaluator: str
    checked_out: frozenset[str] = frozenset()
    same_key: Callable[[str, str], bool] = lambda _old, _new: True


@dataclass(frozen=True, slots=True)
class _Move:
    """A ref to be created (`old` empty) or fast-forwarded on the receiving side."""

    ref: str
    new: str
    old: str = ""


@dataclass
class _Plan:
    """What a comparison came to."""

    moves: list[_Move] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    notes: int = 0

    def report(self, verb: str, remote: str) -> Report:
        def moved(space: str) -> tuple[str, ...]:
            return tuple(move.ref.removeprefix("refs/heads/") for move in self.moves if move.ref.startswith(space))

        studies = tuple(name.removeprefix(STUDIES) for name in moved(STUDIES))
        return Report(verb, remote, moved(TRIALS), studies, self.notes, moved(BEST), tuple(self.left))


def _pull(git: Git, side: _Side) -> Report:
    remote = side.remote
    for _ in range(_ATTEMPTS):
        checked_out: set[str] = set()
        here, there = _both(git, remote, checked_out)
        if not there:
            raise GitResearchError(f"{remote} holds no study yet", f"gitresearch push {remote}")
        _fetch(git, remote, (oid for ref, oid in there.items() if here.get(ref) != oid))
        plan = _compare(git, there, here, replace(side, checked_out=frozenset(checked_out)))
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


def _compare(git: Git, source: Refs, target: Refs, side: _Side) -> _Plan:
    """What can move from source to target. What can't is left alone with a reason; what must not be, raises."""
    plan = _Plan()
    changed = {ref: oid for ref, oid in source.items() if target.get(ref) != oid}
    history = _history(git, changed, target)
    for ref, oid in changed.items():
        old = target.get(ref, "")
        if old and ref.startswith((BEST, NOTES)) and history.reaches(old, oid):
            continue  # the receiving side is ahead
        if why := _why_not(_Move(ref, oid, old), history, side):
            plan.left.append(Left(ref, why))
            continue
        plan.moves.append(_Move(ref, oid, old))
        if ref.startswith(NOTES):
            plan.notes += history.between(old, oid)
    return plan


def _why_not(move: _Move, history: "_History", side: _Side) -> str:
    """Why a ref stays as it is on the receiving side, empty where it may move. Raises where a rule is broken."""
    if not move.old:
        return _misnamed(move.ref, move.new)
    if move.ref.startswith(TRIALS):
        raise _moved_trial(move, side)
    if move.ref.startswith(STUDIES):
        return f"{side.remote} and this repository pin the study to different commits; one of them needs another name"
    if not history.reaches(move.new, move.old):
        return _diverged(move, side)
    if move.ref.startswith(NOTES) and not side.same_key(move.old, move.new):
        return (
            f"on {side.remote} its last commit is not signed by the key that signed here; set it right there: "
            f"git push --force {side.remote} {move.old}:{move.ref}"
        )
    return "it is checked out" if move.ref in side.checked_out else ""


class _History:
    """The parents of the commits that matter: trials down to their study's base, and chains of notes."""

    def __init__(self, parents: Mapping[str, tuple[str, ...]]) -> None:
        self.parents = parents

    def ancestors(self, oid: str) -> set[str]:
        """The commit and all that it stands on."""
        seen = {oid}
        stack = [oid]
        while stack:
            for parent in self.parents.get(stack.pop(), ()):
                if parent not in seen:
                    seen.add(parent)
                    stack.append(parent)
        return seen

    def reaches(self, new: str, old: str) -> bool:
        return old in self.ancestors(new)

    def between(self, old: str, new: str) -> int:
        """How many commits `new` has that `old` lacks."""
        return len(self.ancestors(new) - (self.ancestors(old) if old else set()))


def _history(git: Git, changed: Refs, target: Refs) -> _History:
    """One walk over what moves besides new trials; a study's base is where it ends."""
    tips = {oid for ref, oid in changed.items() if ref.startswith(NOTES) or (ref.startswith(BEST) and ref in target)}
    tips |= {target[ref] for ref in changed if ref in target and ref.startswith((NOTES, BEST))}
    if not tips:
        return _History({})
    bases = {f"^{oid}" for refs in (changed, target) for ref, oid in refs.items() if ref.startswith(STUDIES)}
    listing = git.get("rev-list", "--parents", "--stdin", lines=[*tips, *bases])
    return _History({oid: tuple(parents) for oid, *parents in map(str.split, listing.splitlines())})


def _misnamed(ref: str, oid: str) -> str:
    """Why a ref is none of ours, empty where it is one."""
    if not ref.startswith(TRIALS):
        return "" if _NAMED.fullmatch(ref) or _NOTED.fullmatch(ref) else "it has no name that gitresearch gives"
    try:
        return "" if oid.startswith(BranchName.parse(ref).oid8) else "it points at another commit than its name says"
    except FormatError:
        return "it has no name that gitresearch gives"


def _diverged(move: _Move, side: _Side) -> str:
    """Two histories under one name: an error where both are this evaluator's, else why the ref stays as it is."""
    if move.ref.startswith(BEST):
        return "it would not be a fast-forward; every clone derives it from the notes"
    match = _NOTED.fullmatch(move.ref)
    writer = match[1] if match else ""
    ours, there = (move.new, move.old) if side.verb == "push" else (move.old, move.new)
    if writer == side.evaluator and not side.same_key(ours, there):
        return (
            f"on {side.remote} somebody without its key wrote on; set it right there: "
            f"git push --force {side.remote} {ours}:{move.ref}"
        )
    if writer == side.evaluator:
        raise GitResearchError(
            f"the notes of evaluator {writer} differ here and on {side.remote}: another copy of this repository "
            "writes under the same name",
            "git config --unset gitresearch.evaluator",
        )
    mine = f"{move.ref.removesuffix(writer)}{side.evaluator or 'NEWNAME'}"
    return f"it went another way on {side.remote}; to share these notes as yours: git update-ref {mine} {ours} ''"


def _moved_trial(move: _Move, side: _Side) -> GitResearchError:
    """A trial's branch that names two commits. Its name says which one is the trial."""
    ours, theirs = (move.new, move.old) if side.verb == "push" else (move.old, move.new)
    branch = move.ref.removeprefix("refs/heads/")
    if _misnamed(move.ref, ours):
        return GitResearchError(
            f"the trial {branch} was moved here: it points at {ours[:8]}", f"git update-ref {move.ref} {theirs} {ours}"
        )
    return GitResearchError(
        f"the trial {branch} was moved on {side.remote}: it points at {theirs[:8]} there",
        f"git push --force-with-lease={move.ref}:{theirs} {side.remote} {move.ref}",
    )


def _send(git: Git, remote: str, plan: _Plan) -> Said:
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


def _short(ref: str) -> str:
    """A ref as people name it."""
    return ref.removeprefix("refs/").removeprefix("heads/")
