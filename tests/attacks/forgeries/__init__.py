"""One forgery a file: what it is in a sentence, how it is done, the claim that the audit finds wanting, and the rule
without which it would pass. ALSO are claims that break along with it."""

from collections.abc import Iterator
from typing import Any


def nothing(*_arguments: Any, **_more: Any) -> Iterator[Any]:
    """A rule that finds nothing."""
    return iter(())
