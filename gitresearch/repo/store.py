"""`Repo`: the verbs of the store. Each is a few lines over the module that does the work."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gitresearch.outcome import Outcome
from gitresearch.repo.claims import Claim
from gitresearch.repo.values import ClaimInfo, File, NewTrial, Oddity, Record
from gitresearch.trial import Hypothesis, Trial


class Repo:
    """A git repository that holds studies. Open it with `Repo.open`; safe to use from several threads and processes."""

    git_dir: Path
    common_dir: Path
    workdir: Path | None
    oddities: list[Oddity]
    """What the last `trials()` found under `refs/heads/trial/` that is no trial."""

    @classmethod
    def open(cls, path: Path, *, durable: bool = True) -> "Repo":
        """The repository that `path` lies in, looked for upwards as `git -C` does. `durable` makes every write survive
        a power cut once it returns (fsync)."""
        raise NotImplementedError

    # -- commits and files

    def head_commit(self) -> str:
        """HEAD's commit; detached is fine. GitResearchError where there is no commit yet."""
        raise NotImplementedError

    def resolve_commit(self, rev: str) -> str:
        """The commit a revision names (branch, tag, oid or prefix, `HEAD~2`). GitResearchError where it names none."""
        raise NotImplementedError

    def read_file(self, commit: str, path: str) -> bytes | None:
        """A file's bytes in a commit, None where it has no such file."""
        raise NotImplementedError

    def files(self, commit: str, root: str = "") -> dict[str, File]:
        """Every file under `root` (the whole tree by default), by path relative to the repository's root, sorted."""
        raise NotImplementedError

    def export(self, commit: str, root: str, dest: Path) -> None:
        """Write the files under `root` into the empty directory `dest` (made if missing), bytes as committed: no
        filters, no `.git`. GitResearchError before anything is written where the tree holds a link, a submodule, an
        evil name or too much."""
        raise NotImplementedError

    def tree_with(self, commit: str, edits: Mapping[str, bytes | None]) -> str:
        """The oid of the commit's tree with the edits applied; None deletes. Modes of edited files stay. FormatError
        for a path that git or a file system would take for something else."""
        raise NotImplementedError

    def diff(self, a: str, b: str, paths: Sequence[str] | None = None) -> str:
        """The change from commit `a` to commit `b` as unified text, only under `paths` where given."""
        raise NotImplementedError

    def put_blob(self, data: bytes) -> str:
        """Store bytes, return their oid. A blob that no note or commit names may be pruned after two weeks."""
        raise NotImplementedError

    def blob(self, oid: str) -> bytes:
        """A blob's bytes. GitResearchError where there is none."""
        raise NotImplementedError

    # -- trials

    def make_trial(
        self,
        hypothesis: Hypothesis,
        parents: Sequence[str],
        edits: Mapping[str, bytes | None],
        *,
        time: int | None = None,
    ) -> Trial:
        """Commit the first parent's tree plus the edits and give it its branch. Author is the specialist, committer the
        user. `time` is in seconds since 1970. Doing it again with the same time gives the same trial."""
        raise NotImplementedError

    def make_baseline(self, study: str, base: str) -> Trial:
        """The trial of the unchanged recipe: the base's tree, names and times fixed, so every clone makes the same."""
        raise NotImplementedError

    def ensure_branch(self, trial: Trial) -> None:
        """Make the trial's branch where it is missing (a crash between commit and ref, an archived trial)."""
        raise NotImplementedError

    def trial(self, oid: str) -> Trial:
        """The trial that a commit is. FormatError where it is none."""
        raise NotImplementedError

    def trials(self, study: str | None = None) -> list[Record]:
        """Every trial with its outcome's head, oldest first (time, then oid), in one pass. Refs that are no trials are
        in `oddities` afterwards. A second call costs the difference only."""
        raise NotImplementedError

    def find(self, text: str, study: str | None = None) -> Trial:
        """The one trial that `text` names: oid or prefix (4 digits and more), branch, `slug-oid8`, or `best`.
        GitResearchError with the nearest or with the candidates."""
        raise NotImplementedError

    def latest(self, study: str, n: int = 20) -> list[Record]:
        """The n newest trials, newest first; out of the cache, so its time does not grow with the study."""
        raise NotImplementedError

    def leaders(self, study: str, n: int = 20, direction: str = "min") -> list[Record]:
        """The n best-scored measured trials (not the disqualified), best first; out of the cache."""
        raise NotImplementedError

    # -- studies

    def pin_study(self, study: str, base: str) -> None:
        """Remember the study's base commit for good. GitResearchError where it is pinned to another commit."""
        raise NotImplementedError

    def study_base(self, study: str) -> str | None:
        """The commit the study is pinned to, None where it is not."""
        raise NotImplementedError

    def studies(self) -> dict[str, str]:
        """Every pinned study with its base commit, by name."""
        raise NotImplementedError

    def set_best(self, study: str, oid: str, reason: str) -> None:
        """Move `best/<study>` to a trial, with `reason` in its reflog; compares before it sets."""
        raise NotImplementedError

    def best(self, study: str) -> str | None:
        """The commit `best/<study>` points to."""
        raise NotImplementedError

    # -- notes

    def evaluator_id(self) -> str:
        """This clone's name as an evaluator, made on first use and kept in the clone's git config."""
        raise NotImplementedError

    def record(self, trial_oid: str, outcome: Outcome) -> None:
        """Append the outcome to this evaluator's notes. When it returns, the outcome is on disk. It takes the place of
        an earlier one of the same trial; the chain of notes commits keeps that."""
        raise NotImplementedError

    def record_proposal(self, trial_oid: str, document: bytes) -> None:
        """Append how a trial came about to this clone's proposal notes."""
        raise NotImplementedError

    def outcome(self, trial_oid: str) -> Outcome | None:
        """The trial's whole outcome (of several evaluators': the earliest). FormatError where it can't be read."""
        raise NotImplementedError

    def proposal(self, trial_oid: str) -> bytes | None:
        """How the trial came about, as it was recorded."""
        raise NotImplementedError

    # -- leases

    def claim(self, study: str, trial_oid: str, seconds: float, purpose: str = "") -> Claim | None:
        """A lease on the trial for `seconds`, None where somebody alive holds it."""
        raise NotImplementedError

    def claims(self, study: str) -> list[ClaimInfo]:
        """Every lease of the study, lapsed ones too."""
        raise NotImplementedError

    # -- upkeep

    def clear_stale_locks(self) -> list[str]:
        """Remove lock files that a dead process left; their paths relative to the git directory."""
        raise NotImplementedError

    def pack_if_needed(self) -> bool:
        """Pack loose objects and refs once they pile up; beside running writers it is safe. Whether it did."""
        raise NotImplementedError

    def import_trials(self, items: Iterable[NewTrial]) -> list[str]:
        """Add many trials with their outcomes at once, as packs. Their oids, in order."""
        raise NotImplementedError
