"""`Repo`: the verbs of the store. Trials, studies and upkeep are here; content, notes and leases in its bases."""

import contextlib
import threading
import time as clock
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from gitresearch.errors import FormatError, GitResearchError
from gitresearch.repo import identity, lookup
from gitresearch.repo.bulk import Importer, add_packed_refs, batches
from gitresearch.repo.cache import WORTH_MAKING, WORTH_STORING, Cache
from gitresearch.repo.chain import Chain
from gitresearch.repo.core import checked_name
from gitresearch.repo.door import guarded
from gitresearch.repo.leasing import Leasing
from gitresearch.repo.ledger import Changes, Git, Ledger, uncollected
from gitresearch.repo.locks import clear_old_locks
from gitresearch.repo.objects import Batch, Naming, print_commit
from gitresearch.repo.packing import pack_if_needed
from gitresearch.repo.refs import BEST, OUTCOMES, STUDIES, Moved
from gitresearch.repo.values import NewTrial, Oddity, Record
from gitresearch.text import one_line
from gitresearch.trial import Hypothesis, Trial, read_commit

BASELINE = "gitresearch <gitresearch@localhost>"


class Repo(Chain, Leasing):
    """A git repository that holds studies. Open it with `Repo.open`; safe to use from several threads and processes."""

    def __init__(self, git_dir: str, *, durable: bool = True, cache: bool = True) -> None:
        super().__init__(git_dir, durable=durable, cache=cache)
        self.oddities: list[Oddity] = []
        self._git = Git(self.common_dir, self._source, self._trees)
        self._cache = Cache(self.common_dir / "gitresearch", self._git.changes, self._beliefs)
        self._ledger: Ledger | None = None
        self._reading = threading.RLock()

    # -- trials

    @guarded("make a trial")
    def make_trial(
        self,
        hypothesis: Hypothesis,
        parents: Sequence[str],
        edits: Mapping[str, bytes | None],
        *,
        time: int | None = None,
        proposal: tuple[bytes, Sequence[bytes]] | None = None,
    ) -> Trial:
        """Commit the first parent's tree plus the edits and give it its branch. Author is the specialist, committer the
        user. `time` is in seconds since 1970. Doing it again with the same time gives the same trial. `proposal` is
        what `record_proposal` takes: it is on record before the branch is, so no kill leaves a trial without it."""
        if not parents or len(set(parents)) != len(parents):
            raise FormatError("a trial stands on one parent, or on several that differ")
        times = [lookup.commit_time(self._odb.read(oid)[1]) for oid in parents]
        # A child is younger than its parents, on a fast loop and a set-back clock too: time orders the lineage.
        seconds = max(int(clock.time()), 1 + max(times)) if time is None else time
        author = f"{identity.specialist_author(hypothesis.specialist)} {seconds} +0000"
        committer = f"{self._committer} {seconds} +0000"
        with self._batch() as batch:
            tree = self._trees.edited(batch, self._tree(parents[0]), edits)
            raw = print_commit(tree, parents, author, committer, hypothesis.message())
            return self._commit_trial(batch, hypothesis, raw, proposal)

    @guarded("make the baseline")
    def make_baseline(self, study: str, base: str) -> Trial:
        """The trial of the unchanged recipe: the base's tree, names and times fixed, so every clone makes the same."""
        hypothesis, raw = self._baseline(study, base)
        with self._batch() as batch:
            return self._commit_trial(batch, hypothesis, raw)

    @guarded("name the baseline")
    def baseline(self, study: str, base: str) -> Trial:
        """The trial that `make_baseline` makes; nothing is written."""
        _, raw = self._baseline(study, base)
        return read_commit(Naming().write("commit", raw), raw)

    def _baseline(self, study: str, base: str) -> tuple[Hypothesis, bytes]:
        who = f"{BASELINE} {lookup.commit_time(self._odb.read(base)[1])} +0000"
        hypothesis = Hypothesis("measure the unchanged recipe", study, "baseline", operator="baseline")
        return hypothesis, print_commit(self._tree(base), [base], who, who, hypothesis.message())

    def _commit_trial(
        self, batch: Batch, hypothesis: Hypothesis, raw: bytes, proposal: tuple[bytes, Sequence[bytes]] | None = None
    ) -> Trial:
        trial = read_commit(batch.write("commit", raw), raw)
        if trial.hypothesis != hypothesis:
            raise FormatError("the message does not read back as it was meant")
        batch.sync()
        self._remember(trial.oid, trial.tree)
        if proposal is not None:
            self.record_proposal(trial.oid, *proposal)
        self._create(f"refs/heads/{trial.branch}", trial.oid)
        return trial

    @guarded("make a trial's branch")
    def ensure_branch(self, trial: Trial) -> None:
        """Make the trial's branch where it is missing (a crash between commit and ref, an archived trial)."""
        self._tree(trial.oid)
        self._create(f"refs/heads/{trial.branch}", trial.oid)

    @guarded("read a trial")
    def trial(self, oid: str) -> Trial:
        """The trial that a commit is. FormatError where it is none."""
        return read_commit(oid, self._odb.read(oid)[1])

    @guarded("read the trials")
    def trials(self, study: str | None = None) -> list[Record]:
        """Every trial with its outcome's head, oldest first (time, then oid), in one pass. Refs that are no trials are
        in `oddities` afterwards. A second call costs the difference only."""
        with self._reading:
            records = self._refresh().records()
        return records if study is None else [record for record in records if record.trial.study == study]

    @guarded("find a trial")
    def find(self, text: str, study: str | None = None) -> Trial:
        """The one trial that `text` names: oid or prefix (4 digits and more), branch, `slug-oid8`, `best` or
        `baseline`. GitResearchError with the nearest or with the candidates."""
        if text == "best" or text.startswith("best/"):
            return self.trial(lookup.best(self.studies(), self.best, text, study))
        trials = [record.trial for record in self.trials(study)]
        first = [trial for trial in trials if trial.operator == "baseline"] if text == "baseline" else []
        return first[0] if len(first) == 1 else lookup.find(trials, text)

    def _refresh(self) -> Ledger:
        with uncollected():
            ledger = self._ledger or self._first_ledger()
            if ledger is self._ledger:
                self._apply(ledger, self._git.changes(ledger.listing))
            self._ledger = ledger
        self.oddities = list(ledger.oddities.values())
        return ledger

    def _first_ledger(self) -> Ledger:
        """What the cache knows and what is new since; the cache is told where that is much."""
        cached = self._caches and self._cache.exists()
        ledger, number = self._cache.load() if cached else (Ledger(), 0)
        changes = self._git.changes(ledger.listing)
        self._apply(ledger, changes)
        if self._caches and changes.size > (WORTH_STORING if cached else WORTH_MAKING):
            self._cache.store(changes, number)
        return ledger

    def _apply(self, ledger: Ledger, changes: Changes) -> None:
        ledger.apply(changes, self._beliefs(changes.listing.notes))

    @guarded("read the trials")
    def latest(self, study: str, n: int = 20) -> list[Record]:
        """The n newest trials, newest first; out of the cache, so its time does not grow with the study."""
        found = self._cache.latest(study, n) if self._asks_cache() else None
        return self.trials(study)[: -n - 1 : -1] if found is None else found

    @guarded("read the trials")
    def leaders(self, study: str, n: int = 20, direction: str = "min") -> list[Record]:
        """The n best-scored measured trials (not the disqualified), best first; out of the cache."""
        found = self._cache.leaders(study, n, direction) if self._asks_cache() else None
        return lookup.leaders(self.trials(study), n, direction) if found is None else found

    @guarded("read the trials")
    def having(self, study: str, *statuses: str) -> list[Record]:
        """The trials whose outcome has one of these statuses, oldest first; out of the cache."""
        found = self._cache.having(study, statuses) if self._asks_cache() else None
        if found is not None:
            return found
        return [record for record in self.trials(study) if record.summary and record.summary.status in statuses]

    @guarded("read the trials")
    def with_parents(self, records: Sequence[Record]) -> list[Record]:
        """The records and those of their first parents, which what they gained is told against."""
        known = {record.trial.oid: record for record in records}
        for record in records:
            oid = next(iter(record.trial.parents), "")
            if oid and oid not in known and record.trial.operator != "baseline":
                with contextlib.suppress(FormatError):
                    outcome = self.outcome(oid)
                    known[oid] = Record(self.trial(oid), outcome.summary if outcome else None)
        return list(known.values())

    def _asks_cache(self) -> bool:
        """Once all is in memory, that is faster; a small study never has a cache."""
        return self._caches and self._ledger is None and self._cache.exists()

    # -- studies

    @guarded("pin the study")
    def pin_study(self, study: str, base: str) -> None:
        """Remember the study's base commit for good. GitResearchError where it is pinned to another commit."""
        name = STUDIES + checked_name(study)
        self._tree(base)
        self._listed = None
        try:
            self._create(name, base)
        except Moved:
            pinned = self._refs.get(name)
            why = f"the study {study} stands on {pinned}, not on {base}"
            raise GitResearchError(why, "give the changed study another name in study.toml") from None

    @guarded("read the studies")
    def study_base(self, study: str) -> str | None:
        """The commit the study is pinned to, None where it is not."""
        return self._refs.get(STUDIES + checked_name(study))

    @guarded("read the studies")
    def studies(self) -> dict[str, str]:
        """Every pinned study with its base commit, by name."""
        return {name.removeprefix(STUDIES): oid for name, oid in self._refs.under(STUDIES).items()}

    @guarded("move the best trial")
    def set_best(self, study: str, oid: str, reason: str) -> None:
        """Move `best/<study>` to a trial, with `reason` in its reflog; compares before it sets."""
        name, who = BEST + checked_name(study), f"{self._committer} {int(clock.time())} +0000"
        self._tree(oid)
        with self._lock() as held:
            old = self._refs.get(name)
            if old != oid:
                self._set(held, name, oid, old)
                self._refs.append_log(name, old, oid, who, one_line(reason))

    @guarded("read the best trial")
    def best(self, study: str) -> str | None:
        """The commit `best/<study>` points to."""
        return self._refs.get(BEST + checked_name(study))

    @guarded("read a ref")
    def ref(self, name: str) -> str | None:
        """The oid that any ref holds, None where there is no such ref."""
        return self._refs.get(name)

    # -- upkeep

    @guarded("clear stale locks")
    def clear_stale_locks(self) -> list[str]:
        """Remove lock files that a dead process left; their paths relative to the git directory."""
        with self._lock() as held:
            return sorted([*held.recovered, *clear_old_locks(self.common_dir)])

    @guarded("pack the repository")
    def pack_if_needed(self) -> bool:
        """Pack loose objects and refs once they pile up; beside running writers it is safe. Whether it did."""
        return pack_if_needed(self.git_dir, self.common_dir)

    @guarded("import trials")
    def import_trials(self, items: Iterable[NewTrial]) -> list[str]:
        """Add many trials with their outcomes at once, as packs. Their oids, in order."""
        who = self._committer
        importer = Importer(self._odb, who)
        outcomes = OUTCOMES + self.evaluator_id()
        for batch in batches(items):
            for item in batch:
                importer.add(item)
            with self._lock() as held:
                tip = self._refs.get(outcomes)
                tree = self._tree(tip) if tip else None
                commit = importer.note_commit(tip, tree, f"{who} {int(clock.time())} +0000", self.key)
                importer.overlay.save(self.common_dir / "objects" / "pack", durable=self._durable)
                held.intend(f"{self.common_dir}/packed-refs.lock")
                branches, importer.branches = importer.branches, {}
                self._patiently(partial(add_packed_refs, self.common_dir, branches, durable=self._durable))
                if commit:
                    self._set(held, outcomes, commit, tip)
        return importer.oids
