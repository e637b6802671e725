"""Small pure questions to what was read: which trial is meant, which lead, what a commit's bytes say."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence

import pygit2

from gitresearch.errors import FormatError, GitResearchError
from gitresearch.outcome import MEASURED
from gitresearch.repo.objects import name_object
from gitresearch.repo.values import Record
from gitresearch.text import one_line
from gitresearch.trial import Trial

RANKED = MEASURED - {"disqualified"}
_TIME = re.compile(rb"^committer [^\n]*> (\d+) ", re.MULTILINE)
_MANY = 8


def commit_time(raw: bytes) -> int:
    """A commit object's commit time in seconds since 1970."""
    match = _TIME.search(raw)
    if match is None:
        raise FormatError("not a commit")
    return int(match[1])


def blob_oid(data: bytes) -> str:
    """The oid that bytes have as a blob."""
    return name_object("blob", data)[0]


def leaders(records: Sequence[Record], n: int, direction: str) -> list[Record]:
    """The n best-scored measured records, best first; ties by time, then oid."""
    sign = 1.0 if direction == "min" else -1.0
    scored = [(sign * r.summary.score, r) for r in records if r.summary and r.summary.score is not None]
    ranked = [(score, r.trial.time, r.trial.oid, r) for score, r in scored if r.summary and r.summary.status in RANKED]
    return [item[3] for item in sorted(ranked, key=lambda item: item[:3])[:n]]


def find(trials: Sequence[Trial], text: str) -> Trial:
    """The one trial that an oid, a prefix of it, a branch or its last part names."""
    name = text.strip().removeprefix("refs/heads/")
    exact = [trial for trial in trials if name in (trial.oid, trial.short)]
    if len(exact) != 1 and re.fullmatch(r"[0-9a-f]{4,40}", name):
        exact = [trial for trial in trials if trial.oid.startswith(name)]
    if not exact:
        ending = name.rpartition("-")[2]
        close = [trial for trial in trials if trial.oid.startswith(ending)] if len(ending) == 8 else []
        exact = [t for t in close if name in (t.branch, t.branch.split("/", 2)[2], t.branch.removeprefix("trial/"))]
    if len(exact) == 1:
        return exact[0]
    raise _ambiguous(name, exact) if exact else _unknown(name, trials)


def _ambiguous(name: str, found: Sequence[Trial]) -> GitResearchError:
    named = ", ".join(trial.branch for trial in found[:_MANY])
    more = f" and {len(found) - _MANY} more" if len(found) > _MANY else ""
    return GitResearchError(f"{one_line(name, 60)!r} names {len(found)} trials: {named}{more}", "give more digits")


def _unknown(name: str, trials: Sequence[Trial]) -> GitResearchError:
    names = {trial.branch.split("/", 2)[2]: trial for trial in trials[-5000:]}
    near = difflib.get_close_matches(name.rpartition("/")[2], [*names, *(n[:-9] for n in names)], 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else "gitresearch log"
    return GitResearchError(f"no trial is called {one_line(name, 100)!r}", hint)


def best(studies: Mapping[str, str], best_of: Callable[[str], str | None], text: str, study: str | None) -> str:
    """The commit that `best` or `best/<study>` means."""
    named = text.partition("/")[2] or study
    candidates = [named] if named else sorted(studies)
    found = [(name, oid) for name in candidates if (oid := best_of(name))]
    if len(found) == 1:
        return found[0][1]
    if found:
        raise GitResearchError("several studies have a best trial", f"name one: best/{found[0][0]}")
    raise GitResearchError("there is no best trial yet", "gitresearch run")


def diff(handle: pygit2.Repository, a: str, b: str, paths: Sequence[str] | None) -> str:
    """The change from tree `a` to tree `b` as unified text."""
    patches = handle[a].peel(pygit2.Tree).diff_to_tree(handle[b].peel(pygit2.Tree))
    parts = []
    for patch in patches:
        if patch is None:
            continue
        names = {patch.delta.old_file.path, patch.delta.new_file.path}
        if paths is None or any(_below(name, path.strip("/")) for name in names for path in paths):
            parts.append(patch.data.decode("utf-8", "replace"))
    return "".join(parts)


def _below(name: str, path: str) -> bool:
    return path in ("", ".") or name == path or name.startswith(f"{path}/")
