"""The chain of notes commits as it is written, for whoever wants to check it rather than believe it."""

from collections.abc import Iterator
from dataclasses import dataclass

from gitresearch.repo.door import errors, guarded
from gitresearch.repo.lookup import commit_time
from gitresearch.repo.notes import diff_notes, places
from gitresearch.repo.objects import commit_parents, signed_part
from gitresearch.repo.refs import OUTCOMES, PROPOSALS
from gitresearch.repo.starting import Starting, parse_start
from gitresearch.repo.values import Start

REPLACE = "refs/replace/"


@dataclass(frozen=True, slots=True)
class Link:
    """One notes commit: what it is signed over and by what, the notes that it changed (None: taken away), each the
    oid it is about and its blob's oid; those of them that readers find elsewhere too, or not at all; and the run whose
    start it records, if it does."""

    oid: str
    parents: tuple[str, ...]
    payload: bytes
    signature: str
    notes: dict[str, str | None]
    misplaced: tuple[str, ...]
    time: int
    start: Start | None


class Chain(Starting):
    """Reading notes refs commit by commit."""

    @guarded("read the notes refs")
    def notes_refs(self) -> dict[str, tuple[str, str]]:
        """Every notes ref of ours: the evaluator it belongs to, and its tip."""
        return {
            name: (name.removeprefix(prefix), tip)
            for prefix in (OUTCOMES, PROPOSALS)
            for name, tip in self._refs.under(prefix).items()
        }

    @guarded("read the chain of notes")
    def chain(self, tip: str, since: str = "") -> Iterator[Link]:
        """The notes commits below a tip by first parents, oldest first; those above `since` alone, where that is one of
        them. GitResearchError where one is missing."""
        commits: list[tuple[str, tuple[str, ...]]] = []
        for oid, parents in self._line(tip):
            if oid == since:
                return self._links(commits, self._tree(since))
            commits.append((oid, parents))
        return self._links(commits, None)

    @guarded("read the chain of notes")
    def stands_on(self, tip: str, below: str) -> bool:
        """Whether a notes commit has another one below it, by first parents."""
        return any(oid == below for oid, _ in self._line(tip))

    def _line(self, tip: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """A commit and those below it by first parents, each with its parents."""
        while tip:
            self._tree(tip)
            parents = commit_parents(bytes(self._odb.read(tip)[1]))
            yield tip, parents
            tip = parents[0] if parents else ""

    def _links(self, commits: list[tuple[str, tuple[str, ...]]], before: str | None) -> Iterator[Link]:
        while commits:
            oid, parents = commits.pop()
            with errors("read the chain of notes"):  # not by the guard of who asks for it: that is left by now
                tree = self._tree(oid)
                payload, signature = signed_part(bytes(self._odb.read(oid)[1]))
                notes = diff_notes(self._trees, before, tree)
                odd = tuple(about for about, blob in notes.items() if not self._in_place(tree, about, blob))
            yield Link(oid, parents, payload, signature, notes, odd, commit_time(payload), parse_start(payload))
            before = tree

    def _in_place(self, tree: str, about: str, blob: str | None) -> bool:
        return places(self._trees, tree, about) == ([blob] if blob else [])

    @guarded("look for replaced history")
    def rewritings(self) -> list[str]:
        """What makes git show another history than the objects hold: replacements, grafts, a shallow boundary."""
        found = [f"{name} shows {oid[:8]} in place of another" for name, oid in self._refs.under(REPLACE).items()]
        for name, what in (("info/grafts", "gives commits other parents"), ("shallow", "cuts the history off")):
            path = self.common_dir / name
            if path.exists() and path.read_text("utf-8", "replace").strip():
                found.append(f"{path} {what}")
        return found
