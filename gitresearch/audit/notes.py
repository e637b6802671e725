"""The notes refs: each commit signed by the evaluator that the ref names, each adding to the one before."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gitresearch.audit.finding import Finding
from gitresearch.errors import FormatError, GitResearchError
from gitresearch.outcome import Outcome
from gitresearch.repo import Repo, Start
from gitresearch.repo.chain import Link
from gitresearch.repo.refs import OUTCOMES
from gitresearch.signing import Signer, allowed, fingerprint, signer

SIGNED = "the evaluator signed it"
RECORDED = "every run that was started is recorded"


@dataclass
class Chain:
    """What one notes ref holds: the versions of every outcome, oldest first, the runs that were started, the oids of
    its commits, what they are about (trials; of a failed proposal its own text), and when the latest was made (seconds
    since 1970)."""

    ref: str
    evaluator: str
    versions: dict[str, list[Outcome]] = field(default_factory=dict)
    starts: dict[str, list[Start]] = field(default_factory=dict)
    commits: set[str] = field(default_factory=set)
    about: set[str] = field(default_factory=set)
    latest: int = 0
    findings: list[Finding] = field(default_factory=list)


def read(repo: Repo, ref: str, evaluator: str, tip: str, known: Sequence[Signer]) -> Chain:
    """A notes ref, walked from its beginning. A chain that can't be walked to its end is a finding, as are those that
    follow from it."""
    chain = Chain(ref, evaluator)
    try:
        for link in repo.chain(tip):
            chain.commits.add(link.oid)
            chain.about |= {*link.notes, *([link.start.trial] if link.start else [])}
            chain.latest = max(chain.latest, link.time)
            chain.findings += check(repo, chain, link, known)
    except GitResearchError as error:
        chain.findings.append(Finding(ref, "an unbroken chain of notes", error.message))
    chain.findings = told_once(chain.findings)
    return chain


def check(repo: Repo, chain: Chain, link: Link, known: Sequence[Signer] | None) -> Iterator[Finding]:
    """What is wrong with one commit on what its chain holds so far, to which it is added. `known` is None where nobody
    said who may sign."""
    where = f"{chain.ref} at {link.oid[:8]}"
    if known is not None and (why := _unsigned(link, chain.evaluator, known)):
        yield Finding(where, SIGNED, why)
    if _forked(link):
        yield Finding(where, "one line of notes commits", f"it has {len(link.parents)} parents")
    if _crowded(link):
        yield Finding(where, "one note a commit", f"it changes {len(link.notes)}")
    for oid in _misplaced(link):
        yield Finding(oid[:8], "one place for a note", f"{where} puts it where readers find another, or none")
    if link.start is not None:
        chain.starts.setdefault(link.start.trial, []).append(link.start)
    for oid, blob in link.notes.items():
        if _gone(blob):
            yield Finding(oid[:8], "a note, once made, stays", f"{where} takes it away")
        elif blob is not None and chain.ref.startswith(OUTCOMES):
            yield from _version(repo, chain, where, oid, blob)


def _version(repo: Repo, chain: Chain, where: str, oid: str, blob: str) -> Iterator[Finding]:
    """A further version of a trial's outcome: it may add runs, and lose none."""
    try:
        outcome = Outcome.parse(repo.blob(blob))
    except FormatError as error:
        yield Finding(oid[:8], "an outcome that can be read", f"{where}: {error.message}")
        return
    for start in _unrecorded(chain.starts.get(oid, ()), outcome):
        yield Finding(oid[:8], RECORDED, f"{where} leaves out seed {start.seed} ({start.purpose}), which was started")
    versions = chain.versions.setdefault(oid, [])
    if versions and _lost(versions[-1], outcome):
        yield Finding(oid[:8], "every run is kept", f"{where} changes or drops runs that were recorded before")
    versions.append(outcome)


def _forked(link: Link) -> bool:
    return len(link.parents) > 1


def _crowded(link: Link) -> bool:
    return len(link.notes) != (0 if link.start else 1)


def _misplaced(link: Link) -> tuple[str, ...]:
    return link.misplaced


def _gone(blob: str | None) -> bool:
    return blob is None


def _unrecorded(starts: Iterable[Start], outcome: Outcome) -> list[Start]:
    """The runs of an assessment that were started before its outcome and are not in it. They come one after another;
    those of a baseline or a claim may be under way beside it, and are looked for later."""
    return [start for start in without_result(starts, [outcome]) if start.purpose in ("screen", "head")]


def without_result(starts: Iterable[Start], outcomes: Iterable[Outcome]) -> list[Start]:
    """The starts of a trial whose run is in none of its outcomes."""
    made = {(run.seed, run.purpose) for outcome in outcomes for run in outcome.runs}
    return [start for start in starts if (start.seed, start.purpose) not in made]


def _lost(before: Outcome, after: Outcome) -> bool:
    return after.runs[: len(before.runs)] != before.runs


def _unsigned(link: Link, evaluator: str, known: Sequence[Signer]) -> str:
    """Why a commit is not by the evaluator; empty where it is."""
    if not link.signature:
        return "it is not signed"
    try:
        key = signer(link.signature, link.payload)
    except FormatError as error:
        return error.message
    if not allowed(known, evaluator, key):
        return f"its key {fingerprint(key)} is not listed for {evaluator}"
    return ""


def told_once(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, one for many that say the same of a ref's commits: an unlisted key signs them all."""
    grouped: dict[tuple[str, str, str], list[Finding]] = {}
    for one in findings:
        grouped.setdefault((one.about.partition(" at ")[0], one.claim, one.found), []).append(one)
    told = []
    for (about, claim, found), same in grouped.items():
        more = f" (so for {len(same)} commits)" if len(same) > 1 else ""
        told.append(Finding(same[0].about if len(same) == 1 else about, claim, found + more))
    return told
