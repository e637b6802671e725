"""What an audit finds."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Finding:
    """Something that does not follow: what it is about (a trial, a ref), what is claimed, what was found."""

    about: str
    claim: str
    found: str

    def __str__(self) -> str:
        return f"{self.about}: expected: {self.claim}; found: {self.found}"
