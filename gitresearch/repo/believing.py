"""Whose outcomes count: an evaluator's whose notes are signed, at their tip, by a key that the trial's study lists.

The tip's signature is over all that stands below it. A study that lists no signers takes everybody's word; this clone's
own evaluator counts here by its own key, listed or not, so that a search goes on, and so do those whom the clone's own
list of signers names (git's `gpg.ssh.allowedSignersFile`): a witness who came after the study began. What does not
count is not hidden: it stays in git, `unbelieved` names it, and the audit looks at every commit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gitresearch.errors import FormatError, GitResearchError
from gitresearch.repo import identity
from gitresearch.repo.content import Content
from gitresearch.repo.door import guarded
from gitresearch.repo.objects import signed_part
from gitresearch.repo.refs import OUTCOMES, STUDIES
from gitresearch.signing import Signer, allowed, signer, signers
from gitresearch.study import SIGNERS_FILE

OWN_LIST = "gpg.ssh.allowedSignersFile"


@dataclass(frozen=True)
class Beliefs:
    """`listed` are the signers by study, without the studies that list none; `keys` the one that signed each
    evaluator's tip, empty for none. Whoever is called `own` counts everywhere."""

    listed: Mapping[str, Iterable[Signer]] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict)
    own: str = ""

    def __call__(self, study: str, evaluator: str) -> bool:
        """Whether an evaluator's word on a study's trials counts."""
        known = self.listed.get(study)
        return known is None or evaluator == self.own or allowed(known, evaluator, self.keys.get(evaluator, b""))


class Believing(Content):
    """Who is believed in a repository."""

    _listed: Mapping[str, tuple[Signer, ...]] | None = None
    _last: tuple[Mapping[str, str], Beliefs] | None = None

    def _beliefs(self, tips: Mapping[str, str]) -> Beliefs:
        """What the tips of the evaluators' outcomes are worth: worked out once for each state of them, since every
        outcome that is read asks."""
        last = self._last  # another thread may put its own in its place
        if self._listed is None or last is None or last[0] != tips:
            last = self._last = dict(tips), self._looked_up(tips)
        return last[1]

    def _looked_up(self, tips: Mapping[str, str]) -> Beliefs:
        """The same. The studies' lists are read once."""
        if self._listed is None:
            found = {ref.removeprefix(STUDIES): base for ref, base in self._refs.under(STUDIES).items()}
            self._listed = {study: known for study, base in found.items() if (known := self._signers(base)) is not None}
        if not self._listed:
            return Beliefs()
        more = self.own_signers()
        listed = {study: (*known, *more) for study, known in self._listed.items()}
        keys = {who: self._signed_by(tip) for who, tip in tips.items()}
        me = identity.read_evaluator(self.common_dir) or ""
        return Beliefs(listed, keys, me if keys.get(me) and keys[me] == self._own_key(me) else "")

    def _signers(self, base: str) -> tuple[Signer, ...] | None:
        """Whom a study lists; nobody where that can't be read, None where it lists nobody."""
        try:
            data = self.read_file(base, SIGNERS_FILE)
            return None if data is None else tuple(signers(data.decode("utf-8", "replace")))
        except GitResearchError:
            return ()

    def own_signers(self) -> tuple[Signer, ...]:
        """Whom this clone believes besides, in every study: git's own list of signers, where it has one."""
        try:
            path = Path(str(self._handle.config[OWN_LIST])).expanduser()
            return tuple(signers(path.read_text("utf-8", "replace")))
        except (KeyError, OSError, FormatError):
            return ()

    def _signed_by(self, tip: str) -> bytes:
        try:
            payload, signature = signed_part(bytes(self._odb.read(tip)[1]))
            return signer(signature, payload)
        except (KeyError, FormatError):
            return b""

    @guarded("compare two signatures")
    def same_key(self, old: str, new: str) -> bool:
        """Whether two commits are signed by one key; what was not signed before, anybody may go on with."""
        before = self._signed_by(old)
        return not before or before == self._signed_by(new)

    @guarded("compare two signatures")
    def one_key(self, one: str, other: str) -> bool:
        """Whether two commits are signed, by one key."""
        return bool(key := self._signed_by(one)) and key == self._signed_by(other)

    def _own_key(self, evaluator: str) -> bytes:
        try:
            return identity.load_key(evaluator).public
        except (OSError, GitResearchError):
            return b""

    @guarded("look who is believed")
    def unbelieved(self, study: str) -> list[str]:
        """The evaluators whose outcomes don't count in a study."""
        tips = {ref.removeprefix(OUTCOMES): tip for ref, tip in self._refs.under(OUTCOMES).items()}
        beliefs = self._beliefs(tips)
        return [who for who in tips if not beliefs(study, who)]
