"""Leases on trials: one ref a trial, made and released by compare-and-swap, taken over once expired or orphaned."""

from dataclasses import dataclass


@dataclass
class Claim:
    """A lease that this process holds. Use as a context manager, or call `release`."""

    study: str
    trial: str
    expires: float

    def renew(self, seconds: float) -> bool:
        """Move the expiry to `seconds` from now. False where somebody else has taken the lease meanwhile."""
        raise NotImplementedError

    def release(self) -> None:
        """Give the lease back; no error where it is lost already."""
        raise NotImplementedError

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()
