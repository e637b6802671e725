"""Ways to propose: each is a function from a request to a proposal, listed in one table.

An agent is shown a parent's files, its surface, the brief and the lineage, and answers with a hypothesis and edits.
Nothing it says is trusted: `propose` checks the edits against the surface and makes the commit. An agent that can't
come up with an edit raises ProposalFailed, which carries what the attempt cost.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from gitresearch.errors import Fault, GitResearchError
from gitresearch.lineage import Lineage
from gitresearch.merge import Merge
from gitresearch.outcome import Outcome
from gitresearch.study import Specialist, Study
from gitresearch.surface import Edits, Surface
from gitresearch.trial import Hypothesis, Trial

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Usage:
    """What a proposal cost. Tokens as the server counted them; dollars by the study's price table."""

    calls: int = 0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    tokens_reasoning: int = 0
    dollars: float = 0.0
    seconds: float = 0.0
    repairs: int = 0

    @property
    def tokens(self) -> int:
        """All tokens, in and out."""
        return self.tokens_in + self.tokens_out

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Request:
    """What an agent is given. `files` are the parent's files under the recipe's root, by path from the repository's
    root; `files_of` and `outcome_of` answer for any trial of the study; `check` is the evaluator's own preflight of
    files (what is wrong, or nothing); whoever looks at the lineage while others add to it holds `lock`. `seed` makes
    the agent's own draws repeatable; `again` is why its last answer to the same request came to nothing.

    A combination or ablation has a `merge` and its `other` trial (the second parent, or the step that is taken out).
    Then `files` are the merged ones, those in `conflicts` with conflict markers, and only these are the agent's to
    write. `policy` is why this turn was drawn."""

    study: Study
    specialist: Specialist
    operator: str
    parent: Trial
    files: Files
    brief: str
    lineage: Lineage
    files_of: Callable[[str], Files]
    seed: int
    again: str = ""
    outcome_of: Callable[[str], Outcome | None] = lambda _oid: None
    check: Callable[[Files], str] = lambda _files: ""
    lock: AbstractContextManager[object] = field(default_factory=nullcontext)
    other: Trial | None = None
    merge: Merge | None = None
    policy: str = ""

    @property
    def conflicts(self) -> tuple[str, ...]:
        """The files that the agent has to resolve; in most requests none."""
        return tuple(self.merge.conflicts) if self.merge else ()

    @property
    def asks(self) -> bool:
        """Whether an agent is needed: a replicate and a clean merge are made without one."""
        return self.operator != "replicate" and (self.merge is None or bool(self.conflicts))

    @property
    def editable(self) -> tuple[str, ...]:
        """What the agent may edit, for people: its specialist's surface, or the files that conflict."""
        return self.conflicts or self.specialist.surface

    @property
    def surface(self) -> Surface:
        return Surface(self.conflicts, ()) if self.conflicts else Surface.of(self.specialist.surface)


@dataclass(frozen=True)
class Proposal:
    """An agent's answer before it is a commit. `transcript` is what was said, for the record."""

    hypothesis: Hypothesis
    edits: Edits
    usage: Usage = field(default_factory=Usage)
    transcript: str = ""


class ProposalFailed(GitResearchError):
    """No edit came of it: what was said, what it cost, and whose affair it is."""

    def __init__(
        self, message: str, hint: str = "", usage: Usage | None = None, transcript: str = "", fault: Fault = "answer"
    ) -> None:
        super().__init__(message, hint)
        self.usage = usage or Usage()
        self.transcript = transcript
        self.fault = fault


def trailer_word(text: str) -> str:
    """A program's or a model's name in the characters that a trailer takes."""
    return "".join(char if char.isascii() and char.isprintable() and not char.isspace() else "-" for char in text)


class Agent(Protocol):
    """One way to propose. `reads_lineage`: whether it looks at the request's lineage, which must then hold still;
    `resolves_conflicts`: whether it can bring the two sides of a merge together."""

    reads_lineage: bool
    resolves_conflicts: bool

    def propose(self, request: Request) -> Proposal:
        """A hypothesis with edits inside the specialist's surface; ProposalFailed where none was found."""
        ...
