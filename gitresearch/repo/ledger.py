"""The ledger: every trial with its outcome's head, in memory, brought up to date by the difference.

Nothing here writes. A trial whose note can't be read stays in the list with the reason; a ref that is no trial is an
oddity; a missing object is a reason too. Several evaluators may have spoken about a trial: the earliest counts.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gitresearch.errors import FormatError, GitResearchError
from gitresearch.outcome import MAX_NOTE_BYTES, Summary
from gitresearch.repo.listing import Listing, list_refs
from gitresearch.repo.notes import diff_notes, read_notes
from gitresearch.repo.refs import TRIALS
from gitresearch.repo.stream import Source
from gitresearch.repo.trees import Trees
from gitresearch.repo.values import Oddity, Record
from gitresearch.text import printable
from gitresearch.trial import Trial, read_commit

Head = tuple[Summary | None, str]  # an outcome's head, or why it can't be read


@dataclass
class Changes:
    """What git holds that the ledger did not know, and what it no longer holds. A head of None is a note taken away."""

    listing: Listing
    trials: dict[str, Trial] = field(default_factory=dict)
    oddities: dict[str, Oddity] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    heads: dict[str, dict[str, Head | None]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.trials) + len(self.gone) + len(self.oddities) + sum(map(len, self.heads.values()))


class Git:
    """What the ledger reads of a repository."""

    def __init__(self, common_dir: Path, source: Source, trees: Trees) -> None:
        self._common_dir = common_dir
        self._source = source
        self._trees = trees

    def changes(self, known: Listing) -> Changes:
        """The difference between an earlier listing and what there is now, read in one pass."""
        now = list_refs(self._common_dir, known)
        found = Changes(now)
        new = [name for name, oid in now.trials.items() if known.trials.get(name) != oid]
        found.gone = [name for name, oid in known.trials.items() if now.trials.get(name) != oid]
        notes = {who: self._notes(known.notes.get(who), tip) for who, tip in now.notes.items()}
        for who in known.notes.keys() - now.notes.keys():
            notes[who] = dict.fromkeys(self._notes(None, known.notes[who]))
        # Commits and the first evaluator's notes come from two children of git at once, so both cores work.
        found_heads = {who: self._heads(blobs) for who, blobs in notes.items() if blobs}
        commits = self._commits(new, now.trials, found)
        _drain_together([commits, *(stream for _, stream in found_heads.values())])
        found.heads = {who: heads for who, (heads, _) in found_heads.items()}
        return found

    def _notes(self, old: str | None, new: str) -> dict[str, str | None]:
        """The notes that changed between two notes commits."""
        if old == new:
            return {}
        try:
            tree = self._tree(new)
        except (KeyError, GitResearchError):
            return {}
        if old is not None:
            try:
                return diff_notes(self._trees, self._tree(old), tree)
            except KeyError:
                pass  # the old chain was pruned after a forced update
        return dict(read_notes(self._trees, tree))

    def _tree(self, commit: str) -> str:
        raw = self._source.read(commit)
        if raw is None or not raw.startswith(b"tree "):
            raise KeyError(commit)
        return raw[5:45].decode()

    def _commits(self, names: list[str], trials: Mapping[str, str], found: Changes) -> Iterator[None]:
        oids = [trials[name] for name in names]
        for name, oid, raw in zip(names, oids, self._source.stream(oids), strict=True):
            try:
                if raw is None:
                    raise FormatError("its commit is missing or broken")
                trial = read_commit(oid, raw)
                if name[-8:] != oid[:8] or not name.startswith(f"{trial.hypothesis.study}/"):
                    raise FormatError("the branch's name is not of this commit")
                found.trials[name] = trial
            except FormatError as error:
                found.oddities[name] = Oddity(TRIALS + printable(name), oid, error.message)
            yield

    def _heads(self, blobs: Mapping[str, str | None]) -> tuple[dict[str, Head | None], Iterator[None]]:
        heads: dict[str, Head | None] = {oid: None for oid, blob in blobs.items() if blob is None}
        return heads, self._read_heads({oid: blob for oid, blob in blobs.items() if blob is not None}, heads)

    def _read_heads(self, blobs: Mapping[str, str], heads: dict[str, Head | None]) -> Iterator[None]:
        for oid, note in zip(blobs, self._source.stream(list(blobs.values())), strict=True):
            heads[oid] = read_head(note)
            yield


def read_head(note: bytes | None) -> Head:
    """A note's head, or why it can't be read."""
    if note is None:
        return None, "the note's blob is missing or broken"
    if len(note) > MAX_NOTE_BYTES:
        return None, f"the note is longer than {MAX_NOTE_BYTES} bytes"
    try:
        return Summary.parse(note), ""
    except FormatError as error:
        return None, error.message


def _drain_together(streams: Iterable[Iterator[None]]) -> None:
    """Run every stream to its end, a few steps each in turn."""
    running = list(streams)
    while running:
        running = [stream for stream in running if _step(stream, 64)]


def _step(stream: Iterator[None], count: int) -> bool:
    done = object()
    return all(next(stream, done) is not done for _ in range(count))


class Ledger:
    """Every trial that is known, kept up by `apply`."""

    def __init__(self) -> None:
        self.listing = Listing()
        self.trials: dict[str, Trial] = {}
        self.oddities: dict[str, Oddity] = {}  # by the branch's name
        self.heads: dict[str, dict[str, Head]] = {}  # by evaluator, then by trial
        self._records: dict[str, Record] = {}
        self._order: list[Record] = []

    def apply(self, changes: Changes) -> None:
        """Take the changes over."""
        touched = self._take_trials(changes)
        for who, heads in changes.heads.items():
            mine = self.heads.setdefault(who, {})
            for oid, head in heads.items():
                if head is not None:
                    mine[oid] = head
                else:
                    mine.pop(oid, None)
            touched.update(heads)
        self.listing = changes.listing
        self._refresh(touched)

    def _take_trials(self, changes: Changes) -> set[str]:
        touched = {self.listing.trials[name] for name in changes.gone}
        still = set(changes.listing.trials.values()) if touched else set()
        for oid in touched - still:
            self.trials.pop(oid, None)
        for name in changes.gone:
            self.oddities.pop(name, None)
        self.oddities.update(changes.oddities)
        for trial in changes.trials.values():
            self.trials[trial.oid] = trial
            touched.add(trial.oid)
        return touched

    def _refresh(self, touched: set[str]) -> None:
        few = len(touched) < 1000
        for oid in touched:
            old, trial = self._records.get(oid), self.trials.get(oid)
            new = self._record(trial) if trial else None
            if few and old is not None:
                del self._order[bisect_left(self._order, _place(old), key=_place)]
            if new is None:
                self._records.pop(oid, None)
                continue
            self._records[oid] = new
            if few:
                insort(self._order, new, key=_place)
        if not few:
            self._order = sorted(self._records.values(), key=_place)

    def _record(self, trial: Trial) -> Record:
        spoken = [(who, heads[trial.oid]) for who, heads in self.heads.items() if trial.oid in heads]
        if not spoken:
            return Record(trial)
        who, (summary, broken) = min(spoken, key=_rank) if len(spoken) > 1 else spoken[0]
        return Record(trial, summary, broken, who)

    def records(self) -> list[Record]:
        """All of them, oldest first."""
        return list(self._order)

    def get(self, oid: str) -> Record | None:
        return self._records.get(oid)


def _place(record: Record) -> tuple[int, str]:
    return record.trial.time, record.trial.oid


def _rank(spoken: tuple[str, Head]) -> tuple[bool, str, str]:
    who, (summary, _) = spoken
    return summary is None, summary.at if summary else "", who
