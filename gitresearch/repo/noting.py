"""Notes: outcomes and proposals, each on a ref with one writer, as a chain of commits that only grows."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial

from gitresearch.errors import FormatError, GitResearchError
from gitresearch.outcome import Outcome, precedence
from gitresearch.repo import identity
from gitresearch.repo.believing import Believing
from gitresearch.repo.door import errors, guarded
from gitresearch.repo.lookup import blob_oid
from gitresearch.repo.notes import find_note, put_note, put_notes, read_notes
from gitresearch.repo.objects import TREE_MODE, Batch, Entry, commit_parents, parse_tree, print_commit, with_entry
from gitresearch.repo.refs import OUTCOMES, PROPOSALS, Moved
from gitresearch.repo.values import Record
from gitresearch.signing import GIT, Key
from gitresearch.trial import read_commit

RETRIES = 20
MOST_FOREIGN = 100  # commits of somebody else's on top of our notes
ATTACHMENTS = b"attachments"
_OUTCOME = "outcome of "


class Noting(Believing):
    """What evaluators found, and how trials came about."""

    def __init__(self, git_dir: str, *, durable: bool = True, cache: bool = True) -> None:
        super().__init__(git_dir, durable=durable, cache=cache)
        self._own_tips: dict[str, str] = {}  # what this process wrote, which it need not check

    def evaluator_id(self) -> str:
        """This clone's name as an evaluator, made on first use and kept in the clone's git config."""
        return self._evaluator

    @cached_property
    @guarded("name this evaluator")
    def _evaluator(self) -> str:
        found = identity.read_evaluator(self.common_dir)
        if found is None:
            with self._lock() as held:
                held.intend(f"{self.common_dir}/config.lock")
                found = identity.read_evaluator(self.common_dir)
                if found is None:
                    found = identity.name_evaluator(self._committer.split(" <")[0])
                    self._patiently(partial(identity.keep_evaluator, self.common_dir, found))
        return found

    @cached_property
    @guarded("open this evaluator's key")
    def key(self) -> Key:
        """What this evaluator signs with, made on first use. GitResearchError where it was lost: nobody else may go on
        with its notes."""
        name = self.evaluator_id()
        path = identity.key_file(name)
        try:
            return Key.load(path)
        except FileNotFoundError:
            pass
        if any(self._refs.get(prefix + name) for prefix in (OUTCOMES, PROPOSALS)):
            why = f"the key {path}, with which evaluator {name} signs, is not there"
            raise GitResearchError(
                why, f"bring it back, or measure under a new name: git config --unset {identity.KEY}"
            )
        with suppress(FileExistsError):  # another process was first
            return identity.make_key(name)
        return Key.load(path)

    def signer_line(self) -> str:
        """The line of an allowed-signers file for this evaluator."""
        return f'{self.evaluator_id()} namespaces="{GIT}" {self.key.line}'

    @guarded("record the outcome")
    def record(self, trial_oid: str, outcome: Outcome) -> None:
        """Append the outcome to this evaluator's notes. When it returns, the outcome is on disk. It takes the place of
        an earlier one of the same trial; the chain of notes commits keeps that."""
        self._tree(trial_oid)
        self._append(OUTCOMES, trial_oid, outcome.note(), f"{_OUTCOME}{trial_oid[:8]}: {outcome.summary.status}")

    @guarded("record the proposal")
    def record_proposal(self, trial_oid: str, document: bytes, attachments: Sequence[bytes] = ()) -> None:
        """Append how a trial came about to this clone's proposal notes. `attachments` are blobs that the document names
        by `blob_oid` (brief, transcript): they are kept in the notes' own tree, so that git keeps and sends them."""
        self._tree(trial_oid)
        self._append(PROPOSALS, trial_oid, document, f"proposal of {trial_oid[:8]}", attachments)

    @guarded("record what a proposal cost")
    def record_failed_proposal(self, document: bytes, attachments: Sequence[bytes] = ()) -> None:
        """Append how a proposal came to nothing. There is no trial that the note could be about, so it is about its own
        text, which is kept among the attachments."""
        self._append(PROPOSALS, blob_oid(document), document, "a proposal that failed", [document, *attachments])

    @guarded("read the proposals")
    def proposals(self) -> dict[str, bytes]:
        """Every proposal note of every clone, by the oid it is about: a trial's, or its own text's for one that failed.
        Of several about one trial, the first by clone."""
        found: dict[str, bytes] = {}
        for _, tip in sorted(self._refs.under(PROPOSALS).items(), reverse=True):
            notes: dict[str, str] = {}
            with suppress(FormatError):
                notes = read_notes(self._trees, self._tree(tip))
            found |= {oid: self.blob(blob) for oid, blob in notes.items()}
        return found

    def _append(
        self, prefix: str, trial_oid: str, note: bytes, message: str, attachments: Sequence[bytes] = ()
    ) -> None:
        def change(batch: Batch, tree: str) -> str | None:
            blob = bytes.fromhex(batch.write("blob", note))
            made = self._attach(batch, put_note(self._trees, batch, tree, trial_oid.encode(), blob), attachments)
            return made if made != tree else None  # who goes on after a kill says the same again

        self._extend(prefix, message + "\n", change)

    def _extend(self, prefix: str, message: str, change: Callable[[Batch, str], str | None]) -> None:
        """Add a signed commit to this evaluator's notes. `change` makes its tree from the one before; None: all of it
        is there already."""
        name, key = prefix + self.evaluator_id(), self.key
        who = f"{self._committer} {int(time.time())} +0000"
        for _ in range(RETRIES):
            with self._lock() as held, self._batch() as batch:
                tip = self._refs.get(name)
                self._require_own(name, tip)
                tree = change(batch, self._tree(tip) if tip else self._no_notes(batch))
                if tree is None:
                    return batch.sync()
                parents = [tip] if tip else []
                commit = batch.write("commit", print_commit(tree, parents, who, who, message, key))
                batch.sync()
                try:
                    self._set(held, name, commit, tip)
                    self._own_tips[name] = commit
                    return self._remember(commit, tree)
                except Moved:
                    continue  # `git notes` wrote between our look and our lock file: take its tree
        raise GitResearchError(f"{name} moves faster than it can be written", f"git log -5 {name}")

    def _require_own(self, name: str, tip: str | None) -> None:
        """Nobody goes on with notes that another key ends: no word of theirs would count any more."""
        if tip is None or tip == self._own_tips.get(name) or self._signed_by(tip) == self.key.public:
            return
        good = tip
        for _ in range(MOST_FOREIGN):
            good = next(iter(commit_parents(bytes(self._odb.read(good)[1]))), "")
            if not good or self._signed_by(good) == self.key.public:
                break
        own = f"git update-ref {name} {good}" if good else f"git config --unset {identity.KEY}"
        raise GitResearchError(f"{name} ends in a commit that the key of {self.evaluator_id()} has not signed", own)

    def _no_notes(self, batch: Batch) -> str:
        tree = batch.write("tree", b"")
        self._trees.remember(tree, b"")
        return tree

    def _attach(self, batch: Batch, tree: str, attachments: Sequence[bytes]) -> str:
        """The notes tree with blobs under `attachments/`, spread like notes; git takes no such name for a note."""
        if not attachments:
            return tree
        entry = parse_tree(batch.trees[tree]).get(ATTACHMENTS)
        oids = [batch.write("blob", data) for data in attachments]
        below = put_notes(
            self._trees, batch, entry.oid if entry else None, [(oid.encode(), bytes.fromhex(oid)) for oid in oids]
        )
        root = with_entry(batch.trees[tree], ATTACHMENTS, Entry(TREE_MODE, bytes.fromhex(below)))
        made = batch.write("tree", root)
        self._trees.remember(made, root)
        return made

    @guarded("read a note")
    def note(self, tip: str, oid: str) -> bytes | None:
        """The note about an oid in one notes commit."""
        blob = find_note(self._trees, self._tree(tip), oid)
        return self.blob(blob) if blob else None

    @guarded("read the outcome")
    def outcome(self, trial_oid: str) -> Outcome | None:
        """The trial's whole outcome (of several believed evaluators': the earliest). FormatError where it can't be
        read."""
        found, broken = self._outcomes(trial_oid)
        if broken and not found:
            raise broken
        return next(iter(found.values()), None)

    @guarded("read the outcomes")
    def outcomes(self, trial_oid: str) -> dict[str, Outcome]:
        """What each believed evaluator found for the trial, the one that counts first; none that can't be read."""
        return self._outcomes(trial_oid)[0]

    def notes_of(self, records: Iterable[Record]) -> Iterator[tuple[Record, bytes]]:
        """The note of each record that counts for it, unparsed; each evaluator's tree of notes is walked once."""
        with errors("read the outcomes"):
            tips = {name.removeprefix(OUTCOMES): tip for name, tip in self._refs.under(OUTCOMES).items()}
            blobs = {who: read_notes(self._trees, self._tree(tip)) for who, tip in tips.items()}
            for record in records:
                if blob := blobs.get(record.evaluator, {}).get(record.trial.oid):
                    yield record, self.blob(blob)

    def _outcomes(self, trial_oid: str) -> tuple[dict[str, Outcome], FormatError | None]:
        found: list[tuple[tuple[str, float], str, Outcome]] = []
        broken: FormatError | None = None
        for who, note in self._believed_of(trial_oid):
            try:
                outcome = Outcome.parse(note)
                found.append((precedence(outcome.summary), who, outcome))
            except FormatError as error:
                broken = broken or error
        return {who: outcome for _, who, outcome in sorted(found, key=lambda item: item[:2])}, broken

    def _believed_of(self, trial_oid: str) -> Iterator[tuple[str, bytes]]:
        tips = {name.removeprefix(OUTCOMES): tip for name, tip in self._refs.under(OUTCOMES).items()}
        beliefs = self._beliefs(tips)
        for who, note in self._notes_of(tips, trial_oid):
            if not beliefs.listed or beliefs(read_commit(trial_oid, self._odb.read(trial_oid)[1]).study, who):
                yield who, note

    @guarded("read the proposal")
    def proposal(self, trial_oid: str) -> bytes | None:
        """How the trial came about, as it was recorded."""
        return next((note for _, note in self._notes_of(self._refs.under(PROPOSALS), trial_oid)), None)

    def _notes_of(self, tips: Mapping[str, str], oid: str) -> Iterator[tuple[str, bytes]]:
        for name, tip in tips.items():
            blob = find_note(self._trees, self._tree(tip), oid)
            if blob:
                yield name, self.blob(blob)


def outcome_of(message: bytes) -> set[str]:
    """The first 8 digits of the trial whose outcome a notes commit of ours records; nothing for another message."""
    told = message.removeprefix(_OUTCOME.encode())
    return {told[:8].decode("ascii", "replace")} if told != message else set()
