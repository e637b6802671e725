"""Commits and files: reading them, writing trees and blobs, exporting, comparing."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pygit2

from gitresearch.errors import GitResearchError
from gitresearch.merge import Merge
from gitresearch.repo import lookup, merging
from gitresearch.repo.core import Core
from gitresearch.repo.door import guarded
from gitresearch.repo.merging import CannotMerge
from gitresearch.repo.objects import Naming
from gitresearch.repo.values import File
from gitresearch.text import one_line
from gitresearch.trial import read_commit


class Content(Core):
    """What commits hold."""

    @guarded("read HEAD")
    def head_commit(self) -> str:
        """HEAD's commit; detached is fine. GitResearchError where there is no commit yet."""
        if self._handle.head_is_unborn:
            raise GitResearchError("this repository has no commit yet", "git add -A && git commit -m 'first commit'")
        return str(self._handle.head.peel(pygit2.Commit).id)

    @guarded("look into the history of HEAD")
    def in_history(self, commit: str) -> bool:
        """Whether HEAD is the commit or stands on it."""
        head = self.head_commit()
        return head == commit or bool(self._handle.descendant_of(head, commit))

    @guarded("look up a commit")
    def resolve_commit(self, rev: str) -> str:
        """The commit a revision names (branch, tag, oid or prefix, `HEAD~2`). GitResearchError where it names none."""
        try:
            return str(self._handle.revparse_single(rev).peel(pygit2.Commit).id)
        except (KeyError, ValueError, pygit2.GitError):
            raise GitResearchError(f"no commit is called {one_line(rev, 100)!r}", "git log --oneline --all") from None

    @guarded("read a file")
    def read_file(self, commit: str, path: str) -> bytes | None:
        """A file's bytes in a commit, None where it has no such file."""
        entry = self._trees.entry(self._tree(commit), path)
        if entry is None or not entry.mode.startswith(b"10"):
            return None
        return self.blob(entry.oid.hex())

    @guarded("list files")
    def files(self, commit: str, root: str = "") -> dict[str, File]:
        """Every file under `root` (the whole tree by default), by path relative to the repository's root, sorted."""
        return self._trees.files(self._tree(commit), root.strip("/"))

    @guarded("write a commit's files out")
    def export(self, commit: str, root: str, dest: Path) -> None:
        """Write the files under `root` into the empty directory `dest` (made if missing), bytes as committed: no
        filters, no `.git`. GitResearchError before anything is written where the tree holds a link, a submodule, an
        evil name or too much."""
        self._trees.export(self._tree(commit), root.strip("/"), dest)

    @guarded("edit files")
    def tree_with(self, commit: str, edits: Mapping[str, bytes | None]) -> str:
        """The oid that the commit's tree with the edits applied would have; nothing is written. None deletes, modes of
        edited files stay. FormatError for a path that git or a file system would take for something else."""
        return self._trees.edited(Naming(), self._tree(commit), edits)

    @guarded("compare two commits")
    def edits(self, a: str, b: str) -> dict[str, bytes | None]:
        """What makes the files of commit `a` those of commit `b`: new bytes by path, None deletes."""
        found = {path: new for path, _, new in self._trees.changes(self._tree(a), self._tree(b))}
        return {path: self.blob(new.oid.hex()) if new else None for path, new in sorted(found.items())}

    @guarded("compare two commits")
    def modes(self, a: str, b: str) -> dict[str, tuple[int, int]]:
        """The files that differ between two commits, with git's mode in the one and in the other; 0 where absent."""
        found = self._trees.changes(self._tree(a), self._tree(b))
        return {path: (int(old.mode, 8) if old else 0, int(new.mode, 8) if new else 0) for path, old, new in found}

    @guarded("merge two commits")
    def merge(self, first: str, second: str, root: str = "") -> Merge:
        """What `second` changed under `root` since the best common ancestor, put into the files of `first`; of several
        best ones any. CannotMerge where that is nothing, or no change of lines."""
        for oid in (first, second):
            self._tree(oid)
        base = self._handle.merge_base(first, second)
        if base is None:
            raise CannotMerge(f"{first[:8]} and {second[:8]} have no common ancestor here", "git fetch --unshallow")
        if str(base) == second:
            raise CannotMerge(f"{first[:8]} stands on {second[:8]} already", "gitresearch log")
        return self._merged(str(base), first, second, root)

    @guarded("take a change out")
    def without(self, commit: str, step: str, root: str = "") -> Merge:
        """What undoes the change of a trial (against its first parent) in the files of a commit that stands on it.
        CannotMerge where it doesn't, or where a change is no change of lines."""
        if str(self._handle.merge_base(commit, step)) != step:
            raise CannotMerge(f"{commit[:8]} does not stand on {step[:8]}", f"gitresearch show {commit[:8]}")
        parents = read_commit(step, self._odb.read(step)[1]).parents
        if not parents:
            raise CannotMerge(f"{step[:8]} has no parent to go back to", "gitresearch log")
        return self._merged(step, commit, parents[0], root)

    def _merged(self, base: str, first: str, second: str, root: str) -> Merge:
        sides = self._tree(first), self._tree(second)
        return merging.merged(self._handle, self._trees, (base, self._tree(base)), sides, root.strip("/"))

    @guarded("compare two commits")
    def diff(self, a: str, b: str, paths: Sequence[str] | None = None) -> str:
        """The change from commit `a` to commit `b` as unified text, only under `paths` where given."""
        for _ in self._trees.changes(self._tree(a), self._tree(b)):
            pass  # libgit2 knows no limit, and no ^C
        return lookup.diff(self._handle, self._tree(a), self._tree(b), paths)

    @guarded("read a blob")
    def blob(self, oid: str) -> bytes:
        """A blob's bytes. GitResearchError where there is none."""
        kind, data = self._odb.read(oid)
        if kind != pygit2.enums.ObjectType.BLOB:
            raise GitResearchError(f"{oid} is no blob", f"git cat-file -t {oid}")
        return bytes(data)
