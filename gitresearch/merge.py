"""What a three-way merge of files comes to, and which of its content is whose. Pure.

Content that came by the clean merge of two measured trials is nobody's new edit and needs no surface. What an agent
wrote must lie in the files that conflicted: `strays` names what does not, for a proposal before it is a commit and for
whoever audits one afterwards.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gitresearch.surface import Edits

FIRST, SECOND = "first", "second"  # the labels behind the conflict markers
_LINE = re.compile(rb"^(?:(<{7}(?: .*)?|>{7}(?: .*)?)|={7})\r?$", re.MULTILINE)


@dataclass(frozen=True)
class Merge:
    """What the second side changed since `base` (a commit), put into the first side's files: `edits` where that is
    clean, `conflicts` (path to the text with conflict markers) where it is not."""

    base: str
    edits: Edits = field(default_factory=dict)
    conflicts: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def files(self) -> Edits:
        """Everything it changes in the first side's files, conflicts with their markers."""
        return {**self.edits, **self.conflicts}


def strays(merge: Merge, edits: Edits) -> list[str]:
    """The paths at which edits of the first side's files are neither what the clean merge gives nor in a conflict."""
    asked = edits.keys() | merge.edits.keys()
    missing = object()  # None is a deletion
    return sorted(
        path for path in asked - merge.conflicts.keys() if edits.get(path, missing) != merge.edits.get(path, missing)
    )


def unresolved(merge: Merge, edits: Edits) -> list[str]:
    """The conflicting files that edits of the first side's files leave with a conflict marker in them."""
    return sorted(path for path, marked in merge.conflicts.items() if _markers_left(marked, edits.get(path, marked)))


def _markers_left(marked: bytes, after: bytes | None) -> bool:
    """A line of seven `=` may be a heading's underline: only more of them than both sides had are markers."""
    lines = _LINE.findall(after or b"")
    before = _LINE.findall(marked)
    own = before.count(b"") - sum(line.startswith(b"<") for line in before)
    return any(lines) or lines.count(b"") > own
