"""Leases on trials: one ref a trial, made and released by compare-and-swap, taken over once expired or orphaned.

The ref holds a blob that names the owner (host, pid, start time, boot) and the expiry. A lease whose owner on this host
is dead can be taken at once; one of another host only when it has expired. Times are the system clock's, which hosts
that share a repository must keep within seconds of each other.
"""

import json
import os
import platform
import secrets
import time
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Protocol

import psutil

from gitresearch.repo.values import ClaimInfo, Owner

MAX_SECONDS = 366 * 24 * 3600.0


class Leases(Protocol):
    """What a claim needs of the store."""

    def replace_claim(self, study: str, trial: str, old: bytes, new: bytes | None) -> bool:
        """Put `new` (None: nothing) in the place of `old`. False where `old` is not what is there."""


@dataclass
class Claim:
    """A lease that this process holds. Use as a context manager, or call `release`. `expires` is in seconds since
    1970."""

    study: str
    trial: str
    expires: float
    _document: bytes = field(repr=False)
    _leases: Leases = field(repr=False)

    def renew(self, seconds: float) -> bool:
        """Move the expiry to `seconds` from now. False where somebody else has taken the lease meanwhile."""
        info = parse(self.study, self.trial, self._document)
        document = print_claim(info.owner, expiry(seconds), info.purpose)
        if not self._leases.replace_claim(self.study, self.trial, self._document, document):
            return False
        self._document, self.expires = document, expiry(seconds)
        return True

    def release(self) -> None:
        """Give the lease back; no error where it is lost already."""
        self._leases.replace_claim(self.study, self.trial, self._document, None)

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


def expiry(seconds: float) -> float:
    """When a lease of so many seconds ends."""
    return round(time.time() + min(max(0.0, seconds), MAX_SECONDS), 3)


def print_claim(owner: Owner, expires: float, purpose: str) -> bytes:
    """A lease's blob."""
    return json.dumps(asdict(owner) | {"expires": expires, "purpose": purpose[:200]}, sort_keys=True).encode() + b"\n"


def parse(study: str, trial: str, document: bytes) -> ClaimInfo:
    """The lease in a blob. What can't be read counts as lapsed: nobody could ever release it."""
    try:
        found = json.loads(document)
        owner = Owner(**{name: found[name] for name in ("host", "pid", "boot", "started", "token")})
        expires, purpose = float(found["expires"]), str(found["purpose"])
    except (ValueError, KeyError, TypeError):
        return ClaimInfo(study, trial, Owner("", 0, "", ""), 0.0, "an unreadable lease", False)
    return ClaimInfo(study, trial, owner, expires, purpose, expires > time.time() and not is_dead(owner))


def this_process() -> Owner:
    """This process as the owner of a new lease; the token tells two of its leases apart."""
    pid = os.getpid()
    return replace(_process(pid), token=secrets.token_hex(8))


def is_dead(owner: Owner) -> bool:
    """Whether the owner is known to be gone. False for one on another host: that can't be known."""
    if owner.host != host():
        return False
    if owner.boot != boot():
        return True
    try:
        return owner != replace(_process(owner.pid), token=owner.token)
    except psutil.Error:
        return True


def _process(pid: int) -> Owner:
    # The kernel's own start time counts from boot, so a clock that is set does not change it.
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *rest = stat.rpartition(")")[2].split()
        started = "" if state in "ZX" else rest[18]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            raise psutil.NoSuchProcess(pid) from None
        started = f"{psutil.Process(pid).create_time():.2f}"
    if not started:
        raise psutil.ZombieProcess(pid)
    return Owner(host(), pid, boot(), started)


@cache
def host() -> str:
    """This host's name and, where containers share it, its process namespace: pids of another one say nothing."""
    try:
        return f"{platform.node()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


@cache
def boot() -> str:
    """What changes when the host starts anew."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))
