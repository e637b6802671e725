"""Which refs may move from one repository to another, and why the others stay: the rule of push and pull.

Only what is new or strictly ahead moves. A trial is what its name says, a notes ref has one writer, and `best` is
derived from the notes by every clone for itself.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gitresearch.errors import FormatError, GitResearchError
from gitresearch.gitcmd import Git
from gitresearch.text import printable
from gitresearch.trial import BranchName

TRIALS = "refs/heads/trial/"
BEST = "refs/heads/best/"
STUDIES = "refs/gitresearch/studies/"
NOTES = "refs/notes/gitresearch/"
SPACES = (TRIALS, BEST, STUDIES, NOTES)
SHOWN = 10
_NAMED = re.compile(r"refs/(heads/best|gitresearch/studies)/[a-z0-9][a-z0-9_-]{0,63}")
_NOTED = re.compile(r"refs/notes/gitresearch/(?:outcomes|proposals)/([a-z0-9](?:[a-z0-9-]{0,78}[a-z0-9])?)")

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


@dataclass(frozen=True, slots=True)
class Side:
    """What comparing needs to know besides the refs: the remote, the direction and who we are."""

    remote: str
    verb: str
    evaluator: str
    checked_out: frozenset[str] = frozenset()
    same_key: Callable[[str, str], bool] = lambda _old, _new: True


@dataclass(frozen=True, slots=True)
class Move:
    """A ref to be created (`old` empty) or fast-forwarded on the receiving side."""

    ref: str
    new: str
    old: str = ""


@dataclass
class Plan:
    """What a comparison came to."""

    moves: list[Move] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    notes: int = 0

    def report(self, verb: str, remote: str) -> Report:
        """What there is to tell once it is carried out."""

        def moved(space: str) -> tuple[str, ...]:
            return tuple(move.ref.removeprefix("refs/heads/") for move in self.moves if move.ref.startswith(space))

        studies = tuple(name.removeprefix(STUDIES) for name in moved(STUDIES))
        return Report(verb, remote, moved(TRIALS), studies, self.notes, moved(BEST), tuple(self.left))


def compare(git: Git, source: Refs, target: Refs, side: Side) -> Plan:
    """What can move from source to target. What can't is left alone with a reason; what must not be, raises."""
    plan = Plan()
    changed = {ref: oid for ref, oid in source.items() if target.get(ref) != oid}
    history = _history(git, changed, target)
    for ref, oid in changed.items():
        old = target.get(ref, "")
        if old and ref.startswith((BEST, NOTES)) and history.reaches(old, oid):
            continue  # the receiving side is ahead
        if why := _why_not(Move(ref, oid, old), history, side):
            plan.left.append(Left(ref, why))
            continue
        plan.moves.append(Move(ref, oid, old))
        if ref.startswith(NOTES):
            plan.notes += history.between(old, oid)
    return plan


def _why_not(move: Move, history: "_History", side: Side) -> str:
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


def _diverged(move: Move, side: Side) -> str:
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


def _moved_trial(move: Move, side: Side) -> GitResearchError:
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


def _short(ref: str) -> str:
    """A ref as people name it."""
    return ref.removeprefix("refs/").removeprefix("heads/")
