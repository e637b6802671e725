"""`kill -9` and a full disk at every system call by which a session changes the repository or its key.

The calls are counted once in an uninterrupted session. By default a seeded spread of the frequent ones is struck; with
GITRESEARCH_THOROUGH=1 all of them.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crashes.conftest import Crashes

KILL, FULL, BROKEN = "signal=KILL", "error=ENOSPC", "error=EIO"
SHARDS = 4
SPREAD = 5  # points a shard of a frequent call
# What a full or failing disk can answer, and to which call.
FAULTS = {KILL: ("openat", "write", "pwrite64", "rename", "fsync", "close", "mkdir", "unlink", "link", "flock"),
          FULL: ("openat", "write", "pwrite64", "rename", "mkdir", "link"), BROKEN: ("fsync", "write")}  # fmt: skip
TABLE = [(fault, call, shard) for fault, calls in FAULTS.items() for call in calls for shard in range(SHARDS)]


def points(crashes: Crashes, call: str, shard: int) -> list[int]:
    """The numbers of a call's occurrences that one test strikes."""
    mine = [one.number for one in crashes.calls if one.name == call][shard::SHARDS]
    if os.environ.get("GITRESEARCH_THOROUGH") or len(mine) <= SPREAD:
        return mine
    return sorted(random.Random(f"{call} {shard}").sample(mine, SPREAD))


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "call", "shard"), TABLE)
def test_struck_at_any_system_call_it_goes_on_to_the_same_end(
    crashes: Crashes, world: Path, fault: str, call: str, shard: int, record_property: Callable[[str, object], None]
) -> None:
    """What was promised is there, git and the audit find nothing, and the next run ends as if nothing had happened."""
    struck, chosen = 0, points(crashes, call, shard)
    for number in chosen:
        said = crashes.strike(world, call, number, fault)
        struck += said.code != 0
        # a full disk is told in a sentence, or what it hit could be done without
        assert said.code in (-9, 0) if fault == KILL else said.code in (0, 1), said
        crashes.check(world, said)
        shutil.rmtree(world)
    record_property("points", len(chosen))
    record_property("ended there", struck)
    # Sessions differ in a few calls, by the folders that their objects' names fall into.
    assert fault != KILL or struck >= len(chosen) - 2


def test_a_kill_between_an_object_and_its_branch_costs_nothing(crashes: Crashes, world: Path) -> None:
    """One point of the many above, for everyday."""
    renames = [call for call in crashes.calls if call.name == "rename"]
    branch = next(call for call in renames if b"/refs/heads/trial/" in call.path)
    said = crashes.strike(world, "rename", branch.number, KILL)
    assert said.code == -9
    crashes.check(world, said)
