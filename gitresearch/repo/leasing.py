"""Leases: one ref a trial under evaluation. `claims` has their format and says when an owner is dead."""

from gitresearch.repo import lookup
from gitresearch.repo.claims import Claim, expiry, parse, print_claim, this_process
from gitresearch.repo.content import Content
from gitresearch.repo.core import checked_name
from gitresearch.repo.door import guarded
from gitresearch.repo.refs import CLAIMS, Moved
from gitresearch.repo.values import ClaimInfo


class Leasing(Content):
    """Who evaluates what."""

    @guarded("claim a trial")
    def claim(self, study: str, trial_oid: str, seconds: float, purpose: str = "") -> Claim | None:
        """A lease on the trial for `seconds`, None where somebody alive holds it."""
        name = f"{CLAIMS}{checked_name(study)}/{trial_oid}"
        until = expiry(seconds)
        document = print_claim(this_process(), until, purpose)
        with self._lock() as held, self._batch() as batch:
            old = self._refs.get(name)
            if old is not None and parse(study, trial_oid, self.blob(old)).live:
                return None
            new = batch.write("blob", document)
            batch.sync()
            try:
                self._set(held, name, new, old)
            except Moved:
                return None
        return Claim(study, trial_oid, until, document, self)

    @guarded("change a claim")
    def replace_claim(self, study: str, trial: str, old: bytes, new: bytes | None) -> bool:
        """Put `new` (None: nothing) in the place of a claim's document `old`. False where that is not what is there."""
        name = f"{CLAIMS}{checked_name(study)}/{trial}"
        with self._lock() as held, self._batch() as batch:
            before = lookup.blob_oid(old)
            if self._refs.get(name) != before:
                return False
            if new is None:
                held.intend(f"{self.common_dir}/{name}.lock", f"{self.common_dir}/packed-refs.lock")
                return self._patiently(lambda: self._refs.delete(name, before))
            oid = batch.write("blob", new)
            batch.sync()
            try:
                self._set(held, name, oid, before)
            except Moved:
                return False
        return True

    @guarded("read the claims")
    def claims(self, study: str) -> list[ClaimInfo]:
        """Every lease of the study, lapsed ones too."""
        prefix = f"{CLAIMS}{checked_name(study)}/"
        found = self._refs.under(prefix)
        return [parse(study, name.removeprefix(prefix), self.blob(oid)) for name, oid in found.items()]
