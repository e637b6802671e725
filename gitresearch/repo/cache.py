"""The cache: what the ledger knows, in SQLite under `.git/gitresearch/`, so that a new process need not read it again.

It is never the truth. It is brought up to date from git by the difference before every answer, a broken one is made
anew, and deleting it changes nothing but the time of the next command. Several processes may use it at once: each
writes what it found only onto the state that it started from.
"""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gitresearch import __version__
from gitresearch.outcome import Summary
from gitresearch.repo.believing import Beliefs
from gitresearch.repo.ledger import Changes, Head, Ledger
from gitresearch.repo.listing import Listing
from gitresearch.repo.lookup import RANKED
from gitresearch.repo.values import Oddity, Record
from gitresearch.trial import Hypothesis, Trial

T = TypeVar("T")
WORTH_MAKING = 2000  # fewer trials are read from git in less time than a cache takes to open
MANY_QUESTIONS = 200  # after so many single names it is quicker to read them all
WORTH_STORING = 100  # fewer changes are found again faster than they are stored
VERSION = f"2 {__version__}"  # a reader that reads otherwise starts anew
_PATIENCE_SECONDS = 5.0
_TABLES = """
CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE refs (name TEXT PRIMARY KEY, oid TEXT NOT NULL, loose INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX loose ON refs (loose) WHERE loose;
CREATE TABLE oddities (name TEXT PRIMARY KEY, oid TEXT, why TEXT) WITHOUT ROWID;
CREATE TABLE trials (oid TEXT PRIMARY KEY, tree TEXT, parents TEXT, time INTEGER, subject TEXT, study TEXT,
  specialist TEXT, operator TEXT, body TEXT, expected REAL, assisted TEXT);
CREATE INDEX newest ON trials (study, time DESC, oid DESC);
CREATE TABLE heads (oid TEXT, who TEXT, broken TEXT, status TEXT, metric TEXT, score REAL, sd REAL, n INTEGER,
  confirmed INTEGER, seconds REAL, at TEXT, label TEXT, reason TEXT, PRIMARY KEY (oid, who)) WITHOUT ROWID;
CREATE INDEX leading ON heads (score) WHERE score IS NOT NULL;
CREATE INDEX by_status ON heads (status);
"""
_TRIAL = "t.oid, tree, parents, time, subject, study, specialist, operator, body, expected, assisted"
_HEAD = "h.oid, who, broken, status, metric, score, sd, n, confirmed, seconds, at, label, reason"
_ALL_TRIALS = f"SELECT {_TRIAL} FROM trials t"  # noqa: S608
_ALL_HEADS = f"SELECT {_HEAD} FROM heads h"  # noqa: S608
# Of several believed evaluators' outcomes the first by `precedence` counts, one that can't be read last.
_COUNTS = """believed(t.study, h.who) AND NOT EXISTS (SELECT 1 FROM heads e WHERE e.oid = h.oid AND
  (e.status IS NULL, ifnull(e.at, ''), -ifnull(e.seconds, 0), e.who) <
  (h.status IS NULL, ifnull(h.at, ''), -ifnull(h.seconds, 0), h.who) AND believed(t.study, e.who))"""
_LATEST = f"""SELECT {_TRIAL}, {_HEAD} FROM trials t LEFT JOIN heads h ON h.oid = t.oid AND {_COUNTS}
  WHERE study = ? ORDER BY time DESC, t.oid DESC LIMIT ?"""  # noqa: S608  constants of this module
# CROSS JOIN keeps SQLite to this order: it would else walk all trials to save sorting a few (0.3 s at 100,000).
_RANKED = f"""FROM heads h INDEXED BY leading CROSS JOIN trials t ON t.oid = h.oid
  WHERE score IS NOT NULL AND study = :study AND status IN ({", ".join(repr(status) for status in sorted(RANKED))})
  AND {_COUNTS}"""
# Ties go by time, then oid. The n-th score is found first, by the index: to sort a whole study takes half a second.
_LEADERS = f"""SELECT {_TRIAL}, {_HEAD} {_RANKED}
  AND score %(up)s= ifnull((SELECT score {_RANKED} ORDER BY score %(order)s LIMIT 1 OFFSET :n - 1), 9e999)
  ORDER BY score %(order)s, time, t.oid LIMIT :n"""
_ASCENDING = _LEADERS % {"up": "<", "order": "ASC"}
_DESCENDING = _LEADERS.replace("9e999", "-9e999") % {"up": ">", "order": "DESC"}
_HAVING = f"""SELECT {_TRIAL}, {_HEAD} FROM heads h INDEXED BY by_status CROSS JOIN trials t ON t.oid = h.oid
  WHERE status IN (SELECT value FROM json_each(?)) AND study = ? AND {_COUNTS} ORDER BY time, t.oid"""  # noqa: S608


class Cache:
    """The cache of one repository."""

    def __init__(
        self, home: Path, changes: Callable[[Listing], Changes], beliefs: Callable[[Mapping[str, str]], Beliefs]
    ) -> None:
        self._path = home / "cache.sqlite"
        self._changes, self._beliefs = changes, beliefs

    def exists(self) -> bool:
        """Whether there is one to ask."""
        return self._path.exists()

    def load(self) -> tuple[Ledger, int]:
        """The ledger as it was when it was last written, and that state's number. An empty one and 0 where the cache
        can't be read."""
        return self._tried(_load) or (Ledger(), 0)

    def store(self, changes: Changes, number: int) -> bool:
        """Write changes onto the state of this number. False where another process has written meanwhile."""
        return bool(self._tried(lambda db: _store(db, changes, number)))

    def latest(self, study: str, n: int) -> list[Record] | None:
        """The n newest trials, newest first; None where the cache can't tell."""
        return self._fresh(lambda db: _records(db.execute(_LATEST, (study, n))))

    def leaders(self, study: str, n: int, direction: str) -> list[Record] | None:
        """The n best-scored measured trials, best first; None where the cache can't tell."""
        query = _ASCENDING if direction == "min" else _DESCENDING
        return self._fresh(lambda db: _records(db.execute(query, {"study": study, "n": n})))

    def having(self, study: str, statuses: Sequence[str]) -> list[Record] | None:
        """The trials with one of these statuses, oldest first; None where the cache can't tell."""
        return self._fresh(lambda db: _records(db.execute(_HAVING, (json.dumps(list(statuses)), study))))

    def _fresh(self, ask: Callable[[sqlite3.Connection], T]) -> T | None:
        """The answer after the cache was brought up to date."""
        for _ in range(3):
            known = self._tried(_known)
            if known is None:
                return None
            listing, number = known
            changes = self._changes(listing)
            if changes.listing == listing or self.store(changes, number):
                return self._tried(partial(_asked, ask, self._beliefs(changes.listing.notes)))
        return None

    def _tried(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """What the work gives. A broken cache is thrown away, one that can't be written is passed over: None."""
        try:
            with contextlib.closing(self._connect()) as db:
                return work(db)
        except sqlite3.OperationalError:
            return None  # locked, read-only, the disk is full: the answer comes from git
        except (sqlite3.DatabaseError, ValueError, TypeError):
            with contextlib.suppress(OSError):
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            return None

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(exist_ok=True)
        db = sqlite3.connect(self._path, timeout=_PATIENCE_SECONDS, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA cache_size = -65536")  # KiB: with the default 2 MB a large store reads its pages back
            if _get(db, "version") != VERSION:
                _make(db)
        except BaseException:
            db.close()
            raise
        return db


def _asked(ask: Callable[[sqlite3.Connection], T], believed: Beliefs, db: sqlite3.Connection) -> T:
    """The answer where these are believed."""
    db.create_function("believed", 2, believed, deterministic=True)
    return ask(db)


def _get(db: sqlite3.Connection, key: str) -> str | None:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'state'").fetchone():
        return None
    row = db.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def _make(db: sqlite3.Connection) -> None:
    with _writing(db):
        if _get(db, "version") == VERSION:
            return  # another process was faster
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            db.execute(f"DROP TABLE {name}")
        for statement in _TABLES.split(";"):
            db.execute(statement)
        _put(db, {"version": VERSION, "number": "0", "marks": "[]", "notes": "{}", "packed_notes": "{}"})


@contextlib.contextmanager
def _writing(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _put(db: sqlite3.Connection, state: Mapping[str, str]) -> None:
    db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", state.items())


class _Packed(Mapping[str, str]):
    """The packed branches, read from the cache only where somebody asks: mostly nobody does."""

    def __init__(self, db_path: str) -> None:
        self._db_path = db_path
        self._found: dict[str, str] | None = None
        self._asked = 0

    def _select(self, condition: str, *values: str) -> dict[str, str]:
        with contextlib.closing(sqlite3.connect(self._db_path, timeout=_PATIENCE_SECONDS)) as db:
            return dict(db.execute(f"SELECT name, oid FROM refs WHERE NOT loose AND {condition}", values))  # noqa: S608

    def _names(self) -> dict[str, str]:
        if self._found is None:
            self._found = self._select("1")
        return self._found

    def __getitem__(self, name: str) -> str:
        self._asked += 1
        if self._found is None and self._asked <= MANY_QUESTIONS:
            return self._select("name = ?", name)[name]
        return self._names()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())


def _known(db: sqlite3.Connection) -> tuple[Listing, int]:
    """The listing that the cache was written for, and the state's number."""
    state = dict(db.execute("SELECT key, value FROM state"))
    marks = tuple((str(name), int(a), int(b)) for name, a, b in json.loads(state["marks"]))
    path = db.execute("PRAGMA database_list").fetchone()[2]
    loose = dict(db.execute("SELECT name, oid FROM refs WHERE loose"))
    notes = json.loads(state["notes"]), json.loads(state["packed_notes"])
    return Listing(marks, _Packed(path), loose, notes[1], notes[0]), int(state["number"])


def _load(db: sqlite3.Connection) -> tuple[Ledger, int]:
    db.execute("BEGIN")  # one state, whatever others write meanwhile
    listing, number = _known(db)
    ledger = Ledger()
    packed = dict(db.execute("SELECT name, oid FROM refs WHERE NOT loose"))
    found = Changes(Listing(listing.marks, packed, listing.loose, listing.packed_notes, listing.notes))
    found.trials = {row[0]: _trial(row) for row in db.execute(_ALL_TRIALS)}
    for name, oid, why in db.execute("SELECT name, oid, why FROM oddities"):
        found.oddities[name] = Oddity(f"refs/heads/trial/{name}", oid, why)
    for row in db.execute(_ALL_HEADS):
        found.heads.setdefault(row[1], {})[row[0]] = _head(row)
    ledger.apply(found)
    return ledger, number


def _store(db: sqlite3.Connection, changes: Changes, number: int) -> bool:
    now = changes.listing
    with _writing(db):
        if int(_get(db, "number") or 0) != number:
            return False
        _store_refs(db, changes)
        db.executemany("DELETE FROM oddities WHERE name = ?", [(name,) for name in changes.gone])
        odd = [(name, oddity.oid, oddity.why) for name, oddity in changes.oddities.items()]
        db.executemany("INSERT OR REPLACE INTO oddities VALUES (?, ?, ?)", odd)
        # In the order of the keys: inserting 100,000 rows at random places takes three times as long.
        db.executemany(_insert("trials", 11), map(_trial_row, sorted(changes.trials.values())))
        for who, heads in changes.heads.items():
            gone = [(oid, who) for oid, head in heads.items() if head is None]
            db.executemany("DELETE FROM heads WHERE oid = ? AND who = ?", gone)
            db.executemany(
                _insert("heads", 13), [_head_row(oid, who, h) for oid, h in sorted(heads.items()) if h is not None]
            )
        state = {"number": str(number + 1), "marks": json.dumps(now.marks)}
        _put(db, state | {"notes": json.dumps(now.notes), "packed_notes": json.dumps(now.packed_notes)})
    return True


def _store_refs(db: sqlite3.Connection, changes: Changes) -> None:
    now = changes.listing
    gone = [(name,) for name in changes.gone]
    if gone:
        db.executemany("DELETE FROM refs WHERE name = ?", gone)
        db.execute("DELETE FROM trials WHERE oid NOT IN (SELECT oid FROM refs)")
    new = {*changes.trials, *changes.oddities}
    before = {name for (name,) in db.execute("SELECT name FROM refs WHERE loose")}
    moved = (before ^ now.loose.keys()) - new
    rows = [(name, oid, name in now.loose) for name in sorted({*new, *moved}) if (oid := now.get(name))]
    db.executemany(_insert("refs", 3), rows)


def _insert(table: str, width: int) -> str:
    return f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * width)})"  # noqa: S608


def _trial_row(trial: Trial) -> tuple[Any, ...]:
    h = trial.hypothesis
    return (
        trial.oid, trial.tree, " ".join(trial.parents), trial.time,
        h.subject, h.study, h.specialist, h.operator, h.body, h.expected, h.assisted_by,
    )  # fmt: skip


def _trial(row: tuple[Any, ...]) -> Trial:
    oid, tree, parents, time, subject, study, specialist, operator, body, expected, assisted = row[:11]
    hypothesis = Hypothesis.trusted(subject, study, specialist, operator, body, expected, assisted)
    return Trial(oid, tree, tuple(parents.split(" ")) if parents else (), time, hypothesis)


def _head_row(oid: str, who: str, head: Head) -> tuple[Any, ...]:
    s, broken = head
    if s is None:
        return (oid, who, broken, *[None] * 10)
    return (oid, who, "", s.status, s.metric, s.score, s.sd, s.n, s.confirmed, s.seconds, s.at, s.label, s.reason)


def _head(row: tuple[Any, ...]) -> Head:
    _, _, broken, status, metric, score, sd, n, confirmed, seconds, at, label, reason = row
    if status is None:
        return None, broken
    return Summary(status, metric, score, sd, n, bool(confirmed), seconds, at, label, reason), ""


def _records(rows: Iterable[tuple[Any, ...]]) -> list[Record]:
    found = []
    for row in rows:
        summary, broken = _head(row[11:]) if row[11] else (None, "")
        found.append(Record(_trial(row), summary, broken, row[12] or ""))
    return found
