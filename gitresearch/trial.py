"""A trial's names and its message, in both directions.

A trial is one commit on its own branch `trial/<study>/<slug>-<oid8>`. The message is the hypothesis: subject, body,
and a trailer block that git's own tools read (`git interpret-trailers --parse`). It never holds a result. What
`Hypothesis.message` prints, `parse_message` reads back to the same value; what can't be read back is refused.
"""

import re
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from gitresearch.errors import FormatError
from gitresearch.text import MAX_MESSAGE_BYTES, clean, one_line, require_safe, slug

OPERATORS = ("baseline", "draft", "improve", "repair", "combine", "ablate", "replicate")
SUBJECT_LIMIT = 72
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_BRANCH = re.compile(r"trial/([a-z0-9][a-z0-9_-]{0,63})/([a-z0-9-]{1,48})-([0-9a-f]{8})")
_TRAILER = re.compile(r"([A-Za-z][A-Za-z-]*): (.*)")
_DIVIDER = re.compile(r"^(?:---|. -{24} >8 -{24})")
# What tidy_body would change; one search costs a tenth of tidying and comparing.
_UNTIDY = re.compile(rf"{_DIVIDER.pattern}|[^\S\n]$|\n\n\n|\A\n|\n\Z", re.MULTILINE)
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
        subject = self.subject
        if not 0 < len(subject) <= SUBJECT_LIMIT or subject != " ".join(subject.split()) or subject.startswith("---"):
            raise FormatError(f"the subject must be one line of 1 to {SUBJECT_LIMIT} characters: {subject[:100]!r}")
        if _UNTIDY.search(self.body):
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
    def trusted(
        cls,
        subject: str,
        study: str,
        specialist: str,
        operator: str,
        body: str,
        expected: float | None,
        assisted_by: str,
    ) -> "Hypothesis":
        """A hypothesis of parts that were checked before: out of the cache, or by an expression with the same rules."""
        made = object.__new__(cls)
        _SUBJECT(made, subject)
        _STUDY(made, _NAMES.get(study) or _interned(study))
        _SPECIALIST(made, _NAMES.get(specialist) or _interned(specialist))
        _OPERATOR(made, _NAMES.get(operator) or _interned(operator))
        _BODY(made, body)
        _EXPECTED(made, expected)
        _ASSISTED_BY(made, assisted_by)
        return made

    @classmethod
    def from_text(cls, subject: str, body: str = "", **fields: str | float | None) -> "Hypothesis":
        """A hypothesis from free text (a model's or a person's): cleaned and cut to what git takes."""
        subject = one_line(subject, SUBJECT_LIMIT).lstrip("- ") or "a change without a stated hypothesis"
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
    """The body as it is stored: no trailing space, no runs of blank lines, and no line that git takes for a divider.

    `git interpret-trailers` takes `---` for the start of a patch and a scissors line for the end of the message, and
    would miss the trailers below them.
    """
    lines = [_DIVIDER.sub(r" \g<0>", line.rstrip()) for line in body.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def parse_message(message: str) -> Hypothesis:
    """The hypothesis in a commit message. FormatError where it is not a trial's message."""
    text = message.rstrip("\n")
    head, _, block = text.rpartition("\n\n")
    found: dict[str, str] = {}
    for line in block.split("\n"):
        match = _TRAILER.fullmatch(line)
        if not match or match[1] in found:
            raise FormatError("not a trial: the message does not end in its trailers")
        found[match[1]] = match[2]
    unknown = found.keys() - {"Study", "Specialist", "Operator", "Expected-Delta", "Assisted-by"}
    if unknown or not {"Study", "Specialist", "Operator"} <= found.keys():
        raise FormatError("not a trial: the message lacks the trailers Study, Specialist and Operator")
    subject, _, body = head.partition("\n\n")
    try:
        expected = float(found["Expected-Delta"]) if "Expected-Delta" in found else None
    except ValueError:
        raise FormatError(f"Expected-Delta is not a number: {found['Expected-Delta'][:100]!r}") from None
    return Hypothesis(
        subject=subject,
        body=body,
        study=found["Study"],
        specialist=found["Specialist"],
        operator=found["Operator"],
        expected=expected,
        assisted_by=found.get("Assisted-by", ""),
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


class Trial(NamedTuple):
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


def read_commit(oid: str, raw: bytes) -> Trial:
    """The trial that a commit object's bytes hold. FormatError where it is none."""
    return scan_commit(oid, raw.decode("latin-1"), 0, len(raw))


def scan_commit(oid: str, text: str, start: int, end: int) -> Trial:
    """The trial in `text[start:end]`: a commit's bytes as Latin-1, a character a byte. FormatError where it is none.

    A message as `Hypothesis.message` prints it takes one regular expression that holds the same rules, in a fifth of
    the time: at 100,000 trials that is seconds. All others take `parse_message`.
    """
    match = _PLAIN.match(text, start, end)
    found = plain_trial(oid, match.groups()) if match else None
    return found or _slow(oid, text[start:end].encode("latin-1"))


def plain_trial(oid: str, groups: tuple[Any, ...]) -> Trial | None:
    """The trial of what PLAIN_COMMIT matched; None where the message breaks a rule that the expression can't hold."""
    tree, parents, time, subject, body, study, specialist, operator, expected, assisted = groups
    if operator not in _OPERATORS or len(subject) > SUBJECT_LIMIT or "  " in subject:
        return None
    if body is not None and len(body) > MAX_MESSAGE_BYTES:
        return None
    change = None if expected is None else float(expected)
    hypothesis = Hypothesis.trusted(subject, study, specialist, operator, body or "", change, assisted or "")
    lineage = (parents[7:47],) if len(parents) == 48 else _parents(parents)
    return Trial(oid, tree, lineage, int(time), hypothesis)


# Setting the slots one by one leaves out `__post_init__`.
_SUBJECT, _STUDY, _SPECIALIST, _OPERATOR, _BODY, _EXPECTED, _ASSISTED_BY = (
    getattr(Hypothesis, field.name).__set__ for field in fields(Hypothesis)
)
_COMMIT = (
    r"tree ([0-9a-f]{40})\n((?:parent [0-9a-f]{40}\n)*)author [^\n]*\n"
    r"committer [^\n]*> ([0-9]{1,12}) [+-][0-9]{4}\n"
)
_LINE = r"(?!---|. -{24} >8 -)[ -~]*[!-~]"
_OPERATORS = frozenset(OPERATORS)
PLAIN_COMMIT = (
    rf"{_COMMIT}\n"
    rf"(?!---)([!-~](?:[ -~]*[!-~])?)\n\n(?:({_LINE}(?:\n\n?{_LINE})*?)\n\n)?"
    rf"Study: ({NAME.pattern})\nSpecialist: ({NAME.pattern})\nOperator: ([a-z]+)\n"
    r"(?:Expected-Delta: ([+-][0-9]+(?:\.[0-9]+)?(?:e-[0-9]{1,3}|e\+[0-9]{2})?)\n)?"
    rf"(?:Assisted-by: ([A-Za-z0-9._-]{{1,64}}:[!-9;-~][!-~]{{0,127}})\n)?"
)
_PLAIN = re.compile(rf"{PLAIN_COMMIT}\Z")
_HEADER = re.compile(_COMMIT.encode())
_NAMES: dict[str, str] = {}


def _interned(name: str) -> str:
    """One string for a name that thousands of trials share."""
    if len(_NAMES) > 10_000:
        _NAMES.clear()
    return _NAMES.setdefault(name, name)


def _parents(lines: str) -> tuple[str, ...]:
    return tuple([lines[at : at + 40] for at in range(7, len(lines), 48)])


def _slow(oid: str, raw: bytes) -> Trial:
    header = _HEADER.match(raw)
    if header is None:
        raise FormatError("not a trial: the commit cannot be read")
    tree, parents, time = header.groups()
    start = raw.find(b"\n\n", header.end() - 1) + 2  # further headers: a signature, an encoding
    try:
        hypothesis = parse_message(raw[start:].decode("utf-8"))
    except UnicodeDecodeError:
        raise FormatError("not a trial: the message is not UTF-8") from None
    return Trial(oid, tree.decode(), _parents(parents.decode()), int(time), hypothesis)
