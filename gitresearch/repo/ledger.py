"""The ledger: every trial with its outcome's head, in memory, brought up to date by the difference.

Nothing here writes. A trial whose note can't be read stays in the list with the reason; a ref that is no trial is an
oddity; a missing object is a reason too. Several evaluators may have spoken about a trial: the earliest counts.
"""

import gc
import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from gitresearch.errors import FormatError, GitResearchError
from gitresearch.outcome import HEAD, MAX_NOTE_BYTES, Summary, precedence
from gitresearch.repo.believing import Beliefs
from gitresearch.repo.listing import Listing, changed_names, list_refs
from gitresearch.repo.notes import diff_notes, read_notes
from gitresearch.repo.refs import TRIALS
from gitresearch.repo.stream import Plain, Source, Span
from gitresearch.repo.trees import Trees
from gitresearch.repo.values import Oddity, Record
from gitresearch.text import printable
from gitresearch.trial import PLAIN_COMMIT, Trial, plain_trial, scan_commit

FEW = 1000  # more changed records than this are put in order all at once
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
        new, found.gone = changed_names(known, now)
        commits = self._commits({name: now.get(name) or "" for name in new}, found)
        _step(commits, 1)  # git's child begins to work while the notes trees are walked
        notes = {who: self._notes(known.notes.get(who), tip) for who, tip in now.notes.items()}
        for who in known.notes.keys() - now.notes.keys():
            notes[who] = dict.fromkeys(self._notes(None, known.notes[who]))
        found_heads = {who: self._heads(blobs) for who, blobs in notes.items() if blobs}
        _drain_together([commits, *(stream for _, stream in found_heads.values())])
        found.heads = {who: heads for who, (heads, _) in found_heads.items()}
        return found

    def _notes(self, old: str | None, new: str) -> dict[str, str | None]:
        """The notes that changed between two notes commits."""
        if old == new:
            return {}
        try:
            tree = self._tree(new)
            if old is not None:
                with suppress(KeyError):  # the old chain was pruned after a forced update
                    return diff_notes(self._trees, self._tree(old), tree)
            return dict(read_notes(self._trees, tree))
        except (KeyError, GitResearchError):
            return {}  # anybody may push one that can't be read: the audit tells

    def _tree(self, commit: str) -> str:
        raw = self._source.read(commit)
        if raw is None or not raw.startswith(b"tree "):
            raise KeyError(commit)
        return raw[5:45].decode()

    def _commits(self, branches: Mapping[str, str], found: Changes) -> Iterator[None]:
        answers = self._source.stream(list(branches.values()), _COMMIT)
        for (name, oid), answer in zip(branches.items(), answers, strict=True):
            try:
                trial = read_trial(oid, answer)
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
        for oid, answer in zip(blobs, self._source.stream(list(blobs.values()), _NOTE), strict=True):
            heads[oid] = read_head(answer)
            yield


_COMMIT = Plain(PLAIN_COMMIT, whole=True)
_NOTE = Plain(HEAD, whole=False)


def read_trial(oid: str, answer: Span | re.Match[str]) -> Trial:
    """The trial in a commit. FormatError where it is none."""
    if isinstance(answer, re.Match):
        trial = plain_trial(oid, answer.groups()[1:])
        if trial is not None:
            return trial
        answer = answer.string, answer.end(1) + 1, answer.end() - 1
    text, start, end = answer
    if end < 0:
        raise FormatError("its commit is missing or broken")
    return scan_commit(oid, text, start, end)


def read_head(answer: Span | re.Match[str]) -> Head:
    """The head of a note, or why it can't be read."""
    if isinstance(answer, re.Match):
        if int(answer[1]) > MAX_NOTE_BYTES:
            return None, f"the note is longer than {MAX_NOTE_BYTES} bytes"
        try:
            return Summary.of(answer.groups()[1:]), ""
        except FormatError as error:
            return None, error.message
    text, start, end = answer
    if end < 0:
        return None, "the note's blob is missing or broken"
    if end - start > MAX_NOTE_BYTES:
        return None, f"the note is longer than {MAX_NOTE_BYTES} bytes"
    try:
        return Summary.scan(text, start, end), ""
    except FormatError as error:
        return None, error.message


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector: what is read here stays, and it would go over all of it again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


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
        self.believed = Beliefs()
        self._records: dict[str, Record] = {}
        self._order: list[Record] = []

    def apply(self, changes: Changes, believed: Beliefs | None = None) -> None:
        """Take the changes over. `believed` says whose outcomes count from now on; None leaves that as it is."""
        touched = self._take_trials(changes)
        if believed is not None and believed != self.believed:
            touched.update(self.trials)
            self.believed = believed
        for who, heads in changes.heads.items():
            mine = self.heads.setdefault(who, {})
            mine.update({oid: head for oid, head in heads.items() if head is not None})
            for oid in [oid for oid, head in heads.items() if head is None]:
                mine.pop(oid, None)
            touched.update(heads)
        self.listing = changes.listing
        self._refresh(touched)

    def _take_trials(self, changes: Changes) -> set[str]:
        touched = {self.listing.get(name) or "" for name in changes.gone}
        if touched:  # another branch may hold the same trial
            now = changes.listing
            for oid in touched - {now.get(name) for name in now.names()}:
                self.trials.pop(oid, None)
        for name in changes.gone:
            self.oddities.pop(name, None)
        self.oddities.update(changes.oddities)
        for trial in changes.trials.values():
            self.trials[trial.oid] = trial
            touched.add(trial.oid)
        return touched

    def _refresh(self, touched: set[str]) -> None:
        if len(touched) > FEW:
            in_order = sorted(self.trials.values(), key=itemgetter(Trial._fields.index("time"), 0))
            self._order = [self._record(trial.oid, trial) for trial in in_order]
            self._records = dict(zip([trial.oid for trial in in_order], self._order, strict=True))
            return
        for oid in touched:
            old, trial = self._records.get(oid), self.trials.get(oid)
            new = self._record(oid, trial) if trial else None
            if old is not None:
                del self._order[bisect_left(self._order, _place(old), key=_place)]
            if new is None:
                self._records.pop(oid, None)
                continue
            self._records[oid] = new
            insort(self._order, new, key=_place)

    def _record(self, oid: str, trial: Trial) -> Record:
        best: tuple[str, Head] | None = None
        for who, heads in self.heads.items():
            head = heads.get(oid)
            if head is None or not self.believed(trial.study, who):
                continue
            if best is None or _rank(who, head) < _rank(*best):
                best = (who, head)
        if best is None:
            return Record(trial)
        who, (summary, broken) = best
        return Record(trial, summary, broken, who)

    def records(self) -> list[Record]:
        """All of them, oldest first."""
        return list(self._order)

    def get(self, oid: str) -> Record | None:
        return self._records.get(oid)


def _place(record: Record) -> tuple[int, str]:
    return record.trial.time, record.trial.oid


def _rank(who: str, head: Head) -> tuple[bool, str, float, str]:
    return head[0] is None, *(precedence(head[0]) if head[0] else ("", 0.0)), who
