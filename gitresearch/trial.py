"""A trial's names and its message, in both directions.

A trial is one commit on its own branch `trial/<study>/<slug>-<oid8>`. The message is the hypothesis: subject, body,
and a trailer block that git's own tools read (`git interpret-trailers --parse`). It never holds a result. What
`Hypothesis.message` prints, `parse_message` reads back to the same value; what can't be read back is refused.
"""

import re
from dataclasses import dataclass

from gitresearch.errors import FormatError
from gitresearch.text import clean, one_line, require_safe, slug

OPERATORS = ("baseline", "draft", "improve", "repair", "combine", "ablate", "replicate")
SUBJECT_LIMIT = 72
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_BRANCH = re.compile(r"trial/([a-z0-9][a-z0-9_-]{0,63})/([a-z0-9-]{1,48})-([0-9a-f]{8})")
_TRAILER = re.compile(r"([A-Za-z][A-Za-z-]*): (.*)")
_ASSISTED = re.compile(r"[A-Za-z0-9._-]{1,64}:[^\s:][^\s]{0,127}")


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The claim a trial tests: what is changed and why (subject, body), who made it and what is expected.

    `expected` is the expected change of the study's metric in the metric's own units, with its sign; None if unsaid.
    `assisted_by` is AGENT:MODEL, as the Linux kernel writes it.
    """

    subject: str
    study: str
    specialist: str
    operator: str = "improve"
    body: str = ""
    expected: float | None = None
    assisted_by: str = ""

    def __post_init__(self) -> None:
        require_safe(self.subject, "the subject")
        require_safe(self.body, "the body")
        if not self.subject or len(self.subject) > SUBJECT_LIMIT or self.subject != " ".join(self.subject.split()):
            raise FormatError(f"the subject must be one line of 1 to {SUBJECT_LIMIT} characters: {self.subject[:100]!r}")
        if self.body != tidy_body(self.body):
            raise FormatError("the body holds blank runs, trailing space or a line that git takes for a divider")
        for what, name in (("study", self.study), ("specialist", self.specialist)):
            if not NAME.fullmatch(name):
                raise FormatError(f"the {what} name {name[:100]!r} must be lower-case letters, digits, '-' and '_'")
        if self.operator not in OPERATORS:
            raise FormatError(f"unknown operator {self.operator[:100]!r}; one of {', '.join(OPERATORS)}")
        if self.assisted_by and not _ASSISTED.fullmatch(self.assisted_by):
            raise FormatError(f"Assisted-by must be AGENT:MODEL, not {self.assisted_by[:100]!r}")
        if self.expected is not None and not abs(self.expected) < float("inf"):
            raise FormatError("the expected change must be a finite number")

    @classmethod
    def from_text(cls, subject: str, body: str = "", **fields: str | float | None) -> "Hypothesis":
        """A hypothesis from free text (a model's or a person's): cleaned and cut to what git takes."""
        subject = one_line(subject, SUBJECT_LIMIT) or "a change without a stated hypothesis"
        return cls(subject=subject, body=tidy_body(clean(body, 32 * 1024)), **fields)  # type: ignore[arg-type]

    def message(self) -> str:
        """The commit message; `parse_message` reads it back."""
        trailers = [f"Study: {self.study}", f"Specialist: {self.specialist}", f"Operator: {self.operator}"]
        if self.expected is not None:
            trailers.append(f"Expected-Delta: {self.expected:+}")
        if self.assisted_by:
            trailers.append(f"Assisted-by: {self.assisted_by}")
        parts = [self.subject, self.body, "\n".join(trailers)]
        return "\n\n".join(part for part in parts if part) + "\n"

    @property
    def slug(self) -> str:
        """The branch name's readable part."""
        return slug(self.subject)


def tidy_body(body: str) -> str:
    """The body as it is stored: no trailing space, no runs of blank lines, and no line that starts with `---`.

    `git interpret-trailers` takes `---` for the start of a patch and would miss the trailers below it.
    """
    lines = [re.sub(r"^-{3,}", lambda m: " " + m[0], line.rstrip()) for line in body.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def parse_message(message: str) -> Hypothesis:
    """The hypothesis in a commit message. FormatError where it is not a trial's message."""
    text = message.rstrip("\n")
    head, _, block = text.rpartition("\n\n")
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        match = _TRAILER.fullmatch(line)
        if not match or match[1] in fields:
            raise FormatError("not a trial: the message does not end in its trailers")
        fields[match[1]] = match[2]
    unknown = fields.keys() - {"Study", "Specialist", "Operator", "Expected-Delta", "Assisted-by"}
    if unknown or not {"Study", "Specialist", "Operator"} <= fields.keys():
        raise FormatError("not a trial: the message lacks the trailers Study, Specialist and Operator")
    subject, _, body = head.partition("\n\n")
    try:
        expected = float(fields["Expected-Delta"]) if "Expected-Delta" in fields else None
    except ValueError:
        raise FormatError(f"Expected-Delta is not a number: {fields['Expected-Delta'][:100]!r}") from None
    return Hypothesis(
        subject=subject,
        body=body,
        study=fields["Study"],
        specialist=fields["Specialist"],
        operator=fields["Operator"],
        expected=expected,
        assisted_by=fields.get("Assisted-by", ""),
    )


@dataclass(frozen=True, slots=True)
class BranchName:
    """`trial/<study>/<slug>-<oid8>`: the name ends in its own commit's first 8 hex digits, so clones never collide."""

    study: str
    slug: str
    oid8: str

    def __str__(self) -> str:
        return f"trial/{self.study}/{self.slug}-{self.oid8}"

    @classmethod
    def of(cls, hypothesis: Hypothesis, oid: str) -> "BranchName":
        return cls(hypothesis.study, hypothesis.slug, oid[:8])

    @classmethod
    def parse(cls, name: str) -> "BranchName":
        """The parts of a branch name (with or without `refs/heads/`). FormatError where it is no trial's."""
        match = _BRANCH.fullmatch(name.removeprefix("refs/heads/"))
        if not match:
            raise FormatError(f"not a trial branch: {name[:200]!r}")
        return cls(match[1], match[2], match[3])


@dataclass(frozen=True, slots=True)
class Trial:
    """One commit: what it claims and what it stands on. `time` is the commit time in seconds since 1970."""

    oid: str
    tree: str
    parents: tuple[str, ...]
    time: int
    hypothesis: Hypothesis

    @property
    def branch(self) -> str:
        return str(BranchName.of(self.hypothesis, self.oid))

    @property
    def short(self) -> str:
        return self.oid[:8]

    @property
    def subject(self) -> str:
        return self.hypothesis.subject

    @property
    def study(self) -> str:
        return self.hypothesis.study

    @property
    def specialist(self) -> str:
        return self.hypothesis.specialist

    @property
    def operator(self) -> str:
        return self.hypothesis.operator
