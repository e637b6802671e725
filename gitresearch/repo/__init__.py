"""The store: everything gitresearch keeps in git goes through `Repo`, the only door to pygit2.

Trials are branches, outcomes and proposals are notes on refs with one writer each, leases are refs that expire. The
user's checkout, index, HEAD and hooks are never touched. Whatever goes wrong below leaves here as a GitResearchError.
"""

from gitresearch.repo.claims import Claim
from gitresearch.repo.lookup import blob_oid
from gitresearch.repo.merging import CannotMerge
from gitresearch.repo.store import Repo
from gitresearch.repo.values import ClaimInfo, File, NewTrial, Oddity, Owner, Record, Start

__all__ = [
    "CannotMerge", "Claim", "ClaimInfo", "File", "NewTrial", "Oddity", "Owner", "Record", "Repo", "Start",
    "blob_oid",
]  # fmt: skip
