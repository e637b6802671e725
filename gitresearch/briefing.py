"""What a brief needs of the repository beside the lineage: files, log lines of failures, knowledge, axes of a surface.

Every blob is read once, however many trials share it: trials differ in a file or two.
"""

import math
from functools import cached_property

from gitresearch import brief, holdout
from gitresearch.axes import axes, changed
from gitresearch.decision import shortfall
from gitresearch.errors import FormatError, GitResearchError
from gitresearch.lineage import Lineage
from gitresearch.outcome import Outcome
from gitresearch.repo import Repo
from gitresearch.study import Specialist, Study
from gitresearch.surface import Surface

LOOKED_AT = 40  # trials of a specialist that are asked which axes they changed


class Briefing:
    """The briefs of one study."""

    def __init__(self, repo: Repo, study: Study, base: str) -> None:
        self.repo, self.study, self.base = repo, study, base
        self._blobs: dict[str, bytes] = {}
        self._lines: dict[str, tuple[str, ...]] = {}
        self._shortfalls: dict[str, float] = {}
        self._changed: dict[tuple[str, str], frozenset[str]] = {}

    def files_of(self, commit: str) -> dict[str, bytes]:
        """The commit's files under the recipe's root, by path from the repository's root."""
        entries = self.repo.files(commit, self.study.recipe.folder)
        return {path: self._blob(entry.oid) for path, entry in entries.items()}

    def _blob(self, oid: str) -> bytes:
        if oid not in self._blobs:
            self._blobs[oid] = self.repo.blob(oid)
        return self._blobs[oid]

    def text(self, lineage: Lineage, specialist: Specialist, parent: str) -> str:
        """Exactly what a specialist is shown that starts from a parent."""
        untouched = self.untouched(lineage, specialist, parent) if self.study.agent.lineage else ()
        facts = brief.Facts(self._evidence, self.knowledge, untouched, self._shortfall)
        return brief.render(self.study, specialist, lineage, parent, facts)

    @cached_property
    def knowledge(self) -> list[tuple[str, str]]:
        """The study's knowledge files as they were when it began: path and text."""
        found = []
        for path in self.study.knowledge:
            data = self.repo.read_file(self.base, path) if self.base else None
            if data is None:
                why = f"the knowledge file {path} is not in commit {self.base[:8]}"
                raise GitResearchError(why, f"git add {path} && git commit, and begin a study under a new name")
            found.append((path, data.decode("utf-8", "replace")))
        return found

    def untouched(self, lineage: Lineage, specialist: Specialist, parent: str) -> list[str]:
        """The axes of a surface that the specialist's latest trials left as they were."""
        recent = lineage.recent(LOOKED_AT, specialist.name)
        if not recent:
            return []
        surface = Surface.of(specialist.surface)
        touched: set[str] = set()
        for node in recent:
            touched |= self._touched(node.trial.oid, node.trial.parents, specialist.name, surface)
        return [name for name in axes(self.files_of(parent), surface) if name not in touched]

    def _touched(self, oid: str, parents: tuple[str, ...], name: str, surface: Surface) -> frozenset[str]:
        """The axes a trial changed against its first parent; a trial never changes, so it is asked once."""
        if (oid, name) not in self._changed:
            found = changed(self.files_of(parents[0]), self.files_of(oid), surface) if parents else set[str]()
            self._changed[oid, name] = frozenset(found)
        return self._changed[oid, name]

    def outcome_of(self, oid: str) -> Outcome | None:
        """A trial's outcome as agents may see it; None where there is none that can be read."""
        try:
            found = self.repo.outcome(oid)
        except FormatError:
            return None
        return holdout.without(found) if found else None

    def _shortfall(self, oid: str) -> float:
        """By how much a blocked trial missed its bound; read once, since no blocked trial is measured again."""
        if oid not in self._shortfalls:
            outcome = self.outcome_of(oid)
            self._shortfalls[oid] = shortfall(self.study, outcome) if outcome else math.inf
        return self._shortfalls[oid]

    def _evidence(self, oid: str) -> tuple[str, ...]:
        """The log lines that show why a trial failed. Read once: each brief shows the latest failures again."""
        if oid in self._lines:
            return self._lines[oid]
        outcome = self.outcome_of(oid)
        lines = outcome.failure.lines if outcome and outcome.failure else ()
        if outcome and outcome.summary.status != "harness_abort":  # that one may get another outcome
            self._lines[oid] = lines
        return lines
