"""Whether an edit is a program that was tried before, under other comments or another layout.

Two versions of a Python file are the same where their syntax trees are, without comments, layout, docstrings and the
way that a number is written; any other file by its bytes. A trial is compared by what it changes of a parent: only
files that differ are read, each version once. Looked at are the parent, its latest children, what it stands on, and the
specialist's latest trials, at most NEAR of each: the cost of a turn doesn't grow with the study, and a like that lies
further away is missed. What a trial weighs depends on its comments too, so where the bytes decide nothing is the same.
"""

import ast
import hashlib
from collections.abc import Callable, Iterator, Mapping

from gitresearch.lineage import Lineage, Node
from gitresearch.repo import blob_oid
from gitresearch.study import Study
from gitresearch.surface import Edits, python_tree

NEAR = 50
MOST_STEPS = 20_000  # remembered; each is a few digests
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
Meanings = Mapping[str, str]  # by path, of the files that differ from the parent's; empty for one that is gone


class Tried:
    """What was tried near a trial. `edits` says what makes one commit's files another's, `read` gives one file."""

    def __init__(
        self, study: Study, edits: Callable[[str, str], Edits], read: Callable[[str, str], bytes | None]
    ) -> None:
        self._edits, self._read = edits, read
        asked = {study.objective.metric, *(gate.metric for gate in study.gates if not gate.each)}
        self._weighed, self._capped = "artefact_bytes" in asked, bool(study.budget.artefact_bytes)
        self._meanings: dict[tuple[str, str], str] = {}
        self._steps: dict[tuple[str, str], Meanings] = {}

    def find(self, lineage: Lineage, parent: str, specialist: str, edits: Edits) -> Node | None:
        """A trial near the parent that is the same program as the parent with the edits; the parent itself too."""
        mine = {} if self._weighed else self._changed(parent, edits)
        for node in () if self._weighed else _near(lineage, parent, specialist):
            light = self._capped and node.status == "size_blocked"
            if not light and self._step(parent, node.trial.oid) == mine:
                return node
        return None

    def _step(self, parent: str, oid: str) -> Meanings:
        """What a trial means to a parent; neither ever changes."""
        if parent == oid:
            return {}
        if (parent, oid) not in self._steps:
            if len(self._steps) >= MOST_STEPS:
                self._steps.clear()
            self._steps[parent, oid] = self._changed(parent, self._edits(parent, oid))
        return self._steps[parent, oid]

    def _changed(self, parent: str, edits: Edits) -> Meanings:
        """The meanings of the edited files, without those that mean what they did."""
        found = {path: self._meaning(path, data) for path, data in edits.items()}
        return {path: told for path, told in found.items() if told != self._meaning(path, self._read(parent, path))}

    def _meaning(self, path: str, data: bytes | None) -> str:
        if data is None:
            return ""
        key = (path[-3:], blob_oid(data))
        if key not in self._meanings:
            self._meanings[key] = meaning(path, data)
        return self._meanings[key]


def _near(lineage: Lineage, parent: str, specialist: str) -> Iterator[Node]:
    """The trials that an edit is compared with, each once, the nearest first."""
    if parent not in lineage:
        return
    near = [*lineage.chain(parent, NEAR)[::-1], *lineage.children(parent, NEAR), *lineage.recent(NEAR, specialist)]
    yield from {node.trial.oid: node for node in near}.values()


def meaning(path: str, data: bytes) -> str:
    """A digest that two versions of a file share where they are the same program. A file that names `__doc__` keeps
    its docstrings; one that is no Python, or nested too deep to tell, is its bytes."""
    if path.endswith(".py"):
        try:
            tree = python_tree(data)
            if b"__doc__" not in data:
                _drop_docstrings(tree)
            return hashlib.sha256(ast.dump(tree).encode("utf-8", "surrogatepass")).hexdigest()
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
    return hashlib.sha256(b"bytes\0" + data).hexdigest()


def _drop_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and node.body and _is_text(node.body[0]):
            del node.body[0]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
