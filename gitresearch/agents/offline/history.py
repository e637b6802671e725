"""The lineage as settings: what every trial's files set the levers to, and what came of it.

A trial is read back from its own files, never from what its message claims. A file that is the same bytes is read
once, and only the values are kept: 1,000 trials of a file cost a tenth of a second once, and nothing after that.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from gitresearch.agents import Files, ProposalFailed, Request
from gitresearch.agents.offline import find
from gitresearch.agents.offline.levers import Lever, Reader
from gitresearch.agents.offline.limits import Margins, foretold, margins
from gitresearch.agents.offline.literals import Value
from gitresearch.lineage import Node
from gitresearch.outcome import EARLY_STOP
from gitresearch.surface import Surface

Values = Mapping[str, Value]


@dataclass(frozen=True)
class Point:
    """One trial: its node, what its levers are set to, and the oid of the trial it was made from."""

    node: Node
    values: Values

    @property
    def oid(self) -> str:
        return self.node.trial.oid

    @property
    def score(self) -> float | None:
        return self.node.score

    @property
    def parent(self) -> str:
        return self.node.trial.parents[0] if self.node.trial.parents else ""


@dataclass(frozen=True)
class Scene:
    """All that a choice is made from: the levers of the whole recipe, those that may be turned, the settings tried.

    `own` are the levers inside the specialist's surface; the others are context, which moves the score too. `margins`
    answers for any trial what it left of the study's limits, `slow` what one too slow to win would have scored.
    """

    levers: Mapping[str, Lever]
    own: tuple[str, ...]
    points: Mapping[str, Point]  # by oid, oldest first
    here: Values
    known: frozenset[int]  # fingerprints of every tree in the lineage
    margins: Callable[[str], Margins]
    slow: Callable[[str], float | None]
    hints: Mapping[str, Sequence[Value]]  # by lever: what the study says to try, and no trial has


def fingerprint(files: Files) -> int:
    """One number for a tree's files; equal trees have equal ones within a process."""
    return hash(frozenset(files.items()))


@dataclass
class Archive:
    """What was read so far, held by content, so that a long study is read once."""

    readers: dict[tuple[str, bytes], Reader] = field(default_factory=dict)
    values: dict[tuple[str, bytes], dict[bytes, Values]] = field(default_factory=dict)
    trees: dict[str, tuple[int, tuple[tuple[str, bytes], ...]]] = field(default_factory=dict)
    margins: dict[tuple[str, str], Margins] = field(default_factory=dict)
    slow: dict[str, float | None] = field(default_factory=dict)

    def scene(self, request: Request) -> Scene:
        """The choice that a request poses. ProposalFailed where the recipe can't be read."""
        everywhere = Surface.of(pattern for s in request.study.specialists for pattern in s.surface)
        levers = {lever.key: lever for lever in self.find(request.files, everywhere, request.surface)}
        own = tuple(key for key, lever in levers.items() if inside(lever, request.surface, request.files))
        templates = {lever.path: request.files[lever.path] for lever in levers.values()}
        points, known = {}, set()
        for node in request.lineage:
            mark, sources = self._tree(node.trial.oid, request)
            known.add(mark)
            if not node.offered and node.trial.oid != request.parent.oid:
                continue  # its files are not tried again, and what it seems to teach is not believed
            points[node.trial.oid] = Point(node, self._values(templates, levers, dict(sources)))
        here = {key: lever.value for key, lever in levers.items()}
        hints = {key: _untried(levers[key], request.specialist.hints, points.values()) for key in own}
        told = (partial(self._margins, request), partial(self._slow, request))
        return Scene(levers, own, points, here, frozenset(known), *told, hints)

    @staticmethod
    def find(files: Files, everywhere: Surface, own: Surface) -> list[Lever]:
        """The levers of every Python file that somebody may edit. A broken file is an error only for its owner."""
        out: list[Lever] = []
        for path in sorted(files):
            if not path.endswith(".py") or not everywhere.touches(path):
                continue
            try:
                out += find.find(path, files[path])
            except find.CannotParse as error:
                if own.touches(path):
                    raise ProposalFailed(f"the offline agent can't read {error}", "mend the file and commit") from None
        return out

    def _tree(self, oid: str, request: Request) -> tuple[int, tuple[tuple[str, bytes], ...]]:
        if oid not in self.trees:
            files = request.files_of(oid)
            sources = tuple((path, data) for path, data in files.items() if path.endswith(".py"))
            self.trees[oid] = (fingerprint(files), sources)
        return self.trees[oid]

    def _margins(self, request: Request, oid: str) -> Margins:
        """Read once for each outcome of a trial: a head that runs again has more to tell."""
        at = request.lineage[oid].summary
        key = (oid, at.at if at else "")
        if key not in self.margins:
            outcome = request.outcome_of(oid) if at else None
            self.margins[key] = margins(request.study, outcome) if outcome else {}
        return self.margins[key]

    def _slow(self, request: Request, oid: str) -> float | None:
        """An outcome that ends a trial early is its last."""
        if oid not in self.slow and request.lineage[oid].status == EARLY_STOP:
            outcome = request.outcome_of(oid)
            self.slow[oid] = foretold(request.study, outcome) if outcome else None
        return self.slow.get(oid)

    def _values(self, templates: Mapping[str, bytes], levers: Mapping[str, Lever], sources: Files) -> Values:
        out: dict[str, Value] = {}
        for path, template in templates.items():
            if path in sources:
                out |= self._read(path, template, sources[path], [v for v in levers.values() if v.path == path])
        return out

    def _read(self, path: str, template: bytes, source: bytes, levers: Sequence[Lever]) -> Values:
        key = (path, template)
        if key not in self.readers:
            if len(self.readers) > 64:  # heads come and go; what was read against an old one is of no more use
                self.readers.clear()
                self.values.clear()
            self.readers[key] = Reader(template, levers)
        read = self.values.setdefault(key, {})
        if source not in read:
            read[source] = self.readers[key].values(source)
        return read[source]


def _untried(lever: Lever, hints: Mapping[str, Sequence[Value]], points: Iterable[Point]) -> list[Value]:
    """The hinted values of a lever that are within its domain and that no trial had, nor the parent has."""
    found = [lever.domain.nearest(value) for value in hints.get(lever.name, ())]
    seen = [lever.value, *(point.values.get(lever.key) for point in points)]
    return [value for value in found if value is not None and value not in seen]


def inside(lever: Lever, surface: Surface, files: Files) -> bool:
    """Whether every splice of the lever stays in the surface."""
    if surface.covers(lever.path):
        return True
    if not surface.touches(lever.path):
        return False
    source = files[lever.path].decode("utf-8", "replace")
    try:
        spans = surface.spans(lever.path, source)
    except SyntaxError:
        return False
    last = lever.line + files[lever.path].count(b"\n", lever.start, lever.stop)
    return any(first <= lever.line and last <= end for first, end in spans)
