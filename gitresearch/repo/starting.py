"""Runs that were started: before each, a commit on the evaluator's outcomes ref that changes no note and names the run.

It is signed like the others and stands in the same chain, so that no run can be made and left out: not one that was
killed, and not one whose result somebody would rather not have.
"""

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from typing import Any

from gitresearch.repo.claims import is_dead, this_process
from gitresearch.repo.door import errors, guarded
from gitresearch.repo.locks import KernelLock
from gitresearch.repo.lookup import commit_time
from gitresearch.repo.noting import Noting, outcome_of
from gitresearch.repo.objects import commit_parents
from gitresearch.repo.refs import OUTCOMES
from gitresearch.repo.values import Owner, Start

# A start that has no result lies near the tip: whoever opens the study settles it. Each of these costs 30 µs there.
RECENT = 1000
_START = re.compile(
    rb"start [0-9a-f]{8}: [a-z]+\n\nTrial: ([0-9a-f]{40})\nSeed: ([0-9]{1,19})\nPurpose: ([a-z]+)\nOwner: ([^\n]+)\n"
)


class Starting(Noting):
    """Which runs were begun."""

    @guarded("record that a run starts")
    def start(self, trial_oid: str, seed: int, purpose: str) -> None:
        """Say that a run begins. When it returns, that is on disk."""
        self._tree(trial_oid)
        owner = json.dumps(asdict(this_process()), sort_keys=True)
        body = f"Trial: {trial_oid}\nSeed: {seed}\nPurpose: {purpose}\nOwner: {owner}\n"
        self._extend(OUTCOMES, f"start {trial_oid[:8]}: {purpose}\n\n{body}", lambda _batch, tree: tree)

    def alone(self) -> AbstractContextManager[object]:
        """Hold what outcomes are changed under: whoever reads one, to write it with more runs, loses nobody's."""
        held = ExitStack()
        with errors("lock the outcomes"):  # what goes wrong while it is held is not the lock's
            held.enter_context(KernelLock(self.common_dir, "outcomes")())
        return held

    @guarded("read which runs were started")
    def lost(self, study_seconds: float) -> dict[str, list[Start]]:
        """The runs of this evaluator that were started and ended without a result, by trial, oldest first: their
        process is dead, or on another host and longer at it than the `study_seconds` that a run can take."""
        found: dict[str, list[Start]] = defaultdict(list)
        for start in self._recent():
            too_long = time.time() - start.time > study_seconds
            if is_dead(start.owner) or (too_long and start.owner.host != this_process().host):
                found[start.trial].insert(0, start)
        return {oid: left for oid, starts in found.items() if (left := self._without_result(oid, starts))}

    def _recent(self) -> Iterator[Start]:
        """The latest starts, newest first, but for those before an assessment's outcome, which holds its runs."""
        following = self._refs.get(OUTCOMES + self.evaluator_id())
        settled: set[str] = set()
        for _ in range(RECENT):
            if following is None:
                return
            raw = bytes(self._odb.read(following)[1])
            start = parse_start(raw)
            if start is None:
                settled |= outcome_of(raw.partition(b"\n\n")[2])
            elif start.trial[:8] not in settled or start.purpose not in ("screen", "head"):
                yield start
            following = next(iter(commit_parents(raw)), None)

    def _without_result(self, oid: str, starts: list[Start]) -> list[Start]:
        made = {(run.seed, run.purpose) for outcome in self.outcomes(oid).values() for run in outcome.runs}
        return [start for start in starts if (start.seed, start.purpose) not in made]


def parse_start(commit: bytes) -> Start | None:
    """The start that a notes commit records; None for one that records something else. `commit` is the object, or
    what its signature is over."""
    match = _START.fullmatch(commit.partition(b"\n\n")[2])
    if match is None:
        return None
    oid, seed, purpose, owner = match.groups()
    return Start(oid.decode(), int(seed), purpose.decode(), commit_time(commit), _owner(owner))


def _owner(document: bytes) -> Owner:
    """Who started it. One that can't be read is nobody on this host."""
    try:
        found: dict[str, Any] = json.loads(document)
        return Owner(**{name: found[name] for name in ("host", "pid", "boot", "started", "token")})
    except (ValueError, KeyError, TypeError):
        return Owner("", 0, "", "")
