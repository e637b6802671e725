"""The gate for pushes: whether what refs are about to hold is true, asked before any of them moves.

It judges updates of refs by the audit's own rules and reads what is new alone: a pushed trial and its parents, the
notes commits above the present tip and the notes that they replace. Refs are taken as they will be, so a trial may
stand on one that comes with it. What only all notes together can tell (references, rivals, shares of alpha, which trial
is best, a run whose start came earlier) stays the audit's.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from gitresearch.audit import Finding, holdouts, notes, outcomes, trials
from gitresearch.audit.outcomes import Pins
from gitresearch.audit.whole import hook_digest
from gitresearch.errors import FormatError, GitResearchError
from gitresearch.outcome import Outcome
from gitresearch.pinned import listed_signers, study_of
from gitresearch.repo import Repo
from gitresearch.repo.chain import REPLACE, Link
from gitresearch.repo.identity import EVALUATOR
from gitresearch.repo.refs import BEST, OUTCOMES, PROPOSALS, STUDIES, TRIALS
from gitresearch.signing import Signer
from gitresearch.study import Study
from gitresearch.trial import NAME, BranchName, Trial

NOTES = "refs/notes/gitresearch/"


class Update(NamedTuple):
    """What a ref holds, what it would hold, and its name; an empty oid where there is none."""

    old: str
    new: str
    ref: str


class Pinned(NamedTuple):
    """A study as its base commit holds it."""

    study: Study
    base: str
    signers: Sequence[Signer]


class After:
    """The repository as it would be."""

    def __init__(self, repo: Repo, updates: Iterable[Update]) -> None:
        self.repo = repo
        self.moved = {update.ref: update.new for update in updates}
        self.trial: Callable[[str], Trial | None] = cache(self._trial)
        self.pinned: Callable[[str], Pinned | None] = cache(self._pinned)
        self._pins: dict[str, Pins] = {}

    def ref(self, name: str) -> str:
        """What a ref would hold, empty where it would not be there."""
        return self.moved[name] if name in self.moved else self.repo.ref(name) or ""

    def _trial(self, oid: str) -> Trial | None:
        """The trial that a commit is, where its branch points at it."""
        try:
            found = self.repo.trial(oid)
        except GitResearchError:
            return None
        return found if self.ref(f"refs/heads/{found.branch}") == oid else None

    def of_study(self, name: str) -> trials.Known:
        """The trials of one study."""
        return lambda oid: found if (found := self.trial(oid)) and found.study == name else None

    def _pinned(self, name: str) -> Pinned | None:
        base = self.ref(STUDIES + name)
        return Pinned(study_of(self.repo, name, base), base, listed_signers(self.repo, base)) if base else None

    def pins(self, pinned: Pinned) -> Pins:
        """What every outcome of a study is bound to."""
        study, base = pinned.study, pinned.base
        if study.name not in self._pins:
            self._pins[study.name] = Pins(base, hook_digest(self.repo, study, base), self._data(study.name, base))
        return self._pins[study.name]

    def _data(self, name: str, base: str) -> str | None:
        """The data that the baseline was measured on: by what is there already, else by what comes."""
        baseline = self.repo.baseline(name, base).oid
        there = [tip for ref, (_, tip) in self.repo.notes_refs().items() if ref.startswith(OUTCOMES)]
        coming = [oid for ref, oid in self.moved.items() if ref.startswith(OUTCOMES) and oid]
        for tip in (*there, *coming):
            if note := self.repo.note(tip, baseline):
                return str(Outcome.parse(note).binding.get("data", ""))
        return None

    def stands_out(self, name: str, oid: str) -> bool:
        """Whether some evaluator that counts has confirmed a trial, or it is the baseline."""
        pinned = self.pinned(name)
        if pinned and oid == self.repo.baseline(name, pinned.base).oid:
            return True
        refs = {ref for ref in (*self.repo.notes_refs(), *self.moved) if ref.startswith(OUTCOMES)}
        for ref in refs:
            note = self.repo.note(tip, oid) if (tip := self.ref(ref)) else None
            if note and Outcome.parse(note).summary.confirmed:
                return True
        return False

    def listed(self, link: Link) -> Sequence[Signer] | None:
        """Who may sign a notes commit: whom the study of its trial lists, or any study where it is about no trial.
        None where such a study lists nobody."""
        told = {*link.notes, *([link.start.trial] if link.start else [])}
        about = {found.study for oid in told if (found := self.trial(oid))}
        names = about or {*self.repo.studies(), *(ref.removeprefix(STUDIES) for ref in self.moved if _is(ref, STUDIES))}
        lists = [pinned.signers for name in sorted(names) if (pinned := self.pinned(name))]
        return [*(one for known in lists for one in known), *self.repo.own_signers()] if lists and all(lists) else None


def check(repo: Repo, updates: Iterable[Update], *, deep: bool = True) -> list[Finding]:
    """What is wrong with updates of refs; refs of others are let through. Without `deep` only whether they rewrite what
    is there, which costs a look at each tip."""
    mine = [update for update in updates if update.old != update.new and _space(update.ref)]
    after = After(repo, mine)
    return sorted({finding for update in mine for finding in _checked(after, update, deep=deep)})


def _checked(after: After, update: Update, *, deep: bool) -> Iterator[Finding]:
    if update.ref != update.ref.casefold():
        yield Finding(update.ref, "names in lower case", "a file system may take it for another ref")
        return
    move, content = RULES[_space(update.ref)]
    try:
        wrong = [Finding(update.ref, claim, found) for claim, found in move(after, update)]
        yield from wrong
        if deep and update.new and not wrong:
            yield from content(after, update)
    except GitResearchError as error:
        yield Finding(update.ref, "something that can be read", error.message)


def _is(ref: str, space: str) -> bool:
    """Whether a ref lies in a space, or in its way; some file systems take other letters for the same."""
    return f"{ref}/".casefold().startswith(space)


def _space(ref: str) -> str:
    return next((space for space in RULES if _is(ref, space)), "")


Wrong = Iterator[tuple[str, str]]  # claim and finding


def _trial_moves(after: After, update: Update) -> Wrong:
    """A trial's branch is made once, under the name that its commit gives. What lies under a wrong name may go."""
    try:
        mine = BranchName.parse(update.ref).oid8
    except FormatError:
        mine = ""
    if mine and update.old.startswith(mine):
        yield "a trial's branch stays", f"it would be {_fate(update)}"
    elif update.new:
        trial = after.repo.trial(update.new)
        if f"refs/heads/{trial.branch}" != update.ref:
            yield "a branch named by its commit", f"{update.new[:8]} is {trial.branch}"


def _trial(after: After, update: Update) -> Iterator[Finding]:
    trial = after.repo.trial(update.new)
    pinned = after.pinned(trial.study)
    if pinned is None:
        yield Finding(update.ref, "a trial of a study that has begun", f"{trial.study} has no base commit here")
        return
    yield from trials.check(after.repo, pinned.study, pinned.base, trial, after.of_study(trial.study))


def _notes_moves(after: After, update: Update) -> Wrong:
    """Notes are only added to."""
    prefix = next((space for space in (OUTCOMES, PROPOSALS) if update.ref.startswith(space)), "")
    if not prefix or not EVALUATOR.fullmatch(update.ref.removeprefix(prefix)):
        if update.new:
            yield "notes of an evaluator", "no evaluator has such a name"
    elif not update.new:
        yield "notes are only added to", f"they would be {_fate(update)}"
    elif update.old and not after.repo.stands_on(update.new, update.old) and not _cleaned(after.repo, update):
        yield "notes are only added to", f"{update.new[:8]} does not stand on {update.old[:8]}, which is there"


def _cleaned(repo: Repo, update: Update) -> bool:
    """Whether notes go back to where their evaluator left them: all that is dropped is signed by no key of theirs."""
    if not repo.stands_on(update.old, update.new):
        return False
    return all(not repo.one_key(update.new, link.oid) for link in repo.chain(update.old, update.new))


def _notes(after: After, update: Update) -> Iterator[Finding]:
    chain = notes.Chain(update.ref, update.ref.rpartition("/")[2])
    said: set[str] = set()
    for link in after.repo.chain(update.new, update.old):
        if update.old and update.ref.startswith(OUTCOMES):
            _recall(after, chain, link, update.old)
        chain.findings += notes.check(after.repo, chain, link, after.listed(link))
        chain.findings += _one_key(after, chain, link)
        said.update(link.notes)
    yield from notes.told_once(chain.findings)
    for oid in said & chain.versions.keys():
        yield from _outcome(after, chain, oid)


def _recall(after: After, chain: notes.Chain, link: Link, tip: str) -> None:
    """What the chain said before of the trials that a link is about."""
    for oid in link.notes.keys() - chain.versions.keys():
        note = after.repo.note(tip, oid)
        try:
            chain.versions[oid] = [Outcome.parse(note)] if note else []
        except FormatError:
            chain.versions[oid] = []


def _one_key(after: After, chain: notes.Chain, link: Link) -> Iterator[Finding]:
    """Nobody goes on with a chain that another key began, also where a study of their own lists theirs."""
    if link.parents and not after.repo.same_key(link.parents[0], link.oid):
        found = "it is not signed by the key that signed what it stands on"
        yield Finding(f"{chain.ref} at {link.oid[:8]}", "one key a name", found)


def _outcome(after: After, chain: notes.Chain, oid: str) -> Iterator[Finding]:
    """An outcome by itself, as the push leaves it."""
    trial = after.trial(oid)
    pinned = after.pinned(trial.study) if trial else None
    if trial is None or pinned is None:
        yield Finding(oid[:8], "a trial with a branch", f"{chain.evaluator} measured it; it has none, nor in the push")
    elif chain.versions[oid]:
        last = chain.versions[oid][-1]
        wrong = outcomes.check(pinned.study, trial, last, after.pins(pinned))
        for claim, found in (*wrong, *holdouts.check(pinned.study, last)):
            yield Finding(oid[:8], claim, found)


def _best_moves(_: After, update: Update) -> Wrong:
    if not update.new:
        yield "a best trial stays", f"it would be {_fate(update)}"
    elif not NAME.fullmatch(update.ref.removeprefix(BEST)):
        yield "the best trial of a study", "no study has such a name"


def _best(after: After, update: Update) -> Iterator[Finding]:
    name = update.ref.removeprefix(BEST)
    if not after.of_study(name)(update.new):
        yield Finding(update.ref, "the best trial of a study", f"{update.new[:8]} is no trial of it")
    elif not after.stands_out(name, update.new):
        yield Finding(update.ref, "the best trial of a study", f"no outcome of {update.new[:8]} says it is confirmed")


def _study_moves(_: After, update: Update) -> Wrong:
    """The base commit is the question: set once."""
    if update.old:
        yield "a study keeps its base commit", f"it would be {_fate(update)}"
    elif not NAME.fullmatch(update.ref.removeprefix(STUDIES)):
        yield "the base commit of a study", "no study has such a name"


def _study(after: After, update: Update) -> Iterator[Finding]:
    after.pinned(update.ref.removeprefix(STUDIES))  # what it can't read, it raises
    yield from ()


def _replacing(_: After, update: Update) -> Wrong:
    """A replacement shows everybody another history than was measured."""
    if update.new:
        yield "history as it was made", f"it would show {update.new[:8]} in place of another object"


def _nothing(*_: object) -> Iterator[Finding]:
    yield from ()


def _fate(update: Update) -> str:
    return f"moved to {update.new[:8]}" if update.new else "deleted"


RULES: dict[str, tuple[Callable[[After, Update], Wrong], Callable[[After, Update], Iterator[Finding]]]] = {
    TRIALS: (_trial_moves, _trial),
    NOTES: (_notes_moves, _notes),
    BEST: (_best_moves, _best),
    STUDIES: (_study_moves, _study),
    REPLACE: (_replacing, _nothing),
}
