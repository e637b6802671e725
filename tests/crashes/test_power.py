"""A power cut after every system call of a session, replayed: what the disk may then hold is always a sound study.

By default a seeded sample of the states is checked; with GITRESEARCH_THOROUGH=1 all of them.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gitresearch.errors import GitResearchError
from tests.crashes.conftest import Crashes
from tests.crashes.nursery import Call, Said, copy, traced
from tests.crashes.power import State, crashes_of, read, write

SHARDS = 4
SAMPLE = 60  # states a shard

Cuts = list[tuple[State, Said]]


def cuts(crashes: Crashes, top: Path, *, durable: bool) -> Cuts:
    """What the disk may hold after a cut in the midst of a session, in an order by chance."""
    calls = traced(crashes.nursery, copy(crashes.before, top / "world"), top / "trace", durable=durable)
    found = list(crashes_of(top / "world", crashes.before, calls))
    random.Random(1).shuffle(found)
    return found


@pytest.fixture(scope="session")
def durable(crashes: Crashes, tmp_path_factory: pytest.TempPathFactory) -> Cuts:
    return cuts(crashes, tmp_path_factory.mktemp("durable"), durable=True)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_power_cut_at_any_moment_breaks_no_promise(
    crashes: Crashes, durable: Cuts, world: Path, shard: int, record_property: Callable[[str, object], None]
) -> None:
    """By either model: the study is sound, what was acknowledged is there, and the next run comes to the same end."""
    mine = durable[shard::SHARDS]
    mine = mine if os.environ.get("GITRESEARCH_THOROUGH") else mine[:SAMPLE]
    for state, said in mine:
        crashes.check(write(state, world), said)
        shutil.rmtree(world)
    record_property("states", len(mine))
    assert len(durable) > 500


@pytest.mark.slow
def test_without_syncs_most_power_cuts_break_it(crashes: Crashes, tmp_path: Path, world: Path) -> None:
    """The replay can tell: a store that is not durable loses what it acknowledged, or is broken."""
    found = cuts(crashes, tmp_path / "quick", durable=False)[:40]
    broken = 0
    for state, said in found:
        try:
            crashes.check(write(state, world), said)
        except (AssertionError, GitResearchError):
            broken += 1
        shutil.rmtree(world)
    assert broken > 20


def test_the_replay_forgets_what_was_not_synced(tmp_path: Path) -> None:
    """A file that was written and renamed: unsynced it is lost, cut or empty; with both syncs there is one state."""
    (tmp_path / "before").mkdir()
    old, new = b"/w/old", b"/w/new"
    calls = [Call("openat", 1, (old,), writing=True), Call("write", 1, (old, b"data")), Call("rename", 1, (old, new))]
    synced = [*calls[:2], Call("fsync", 1, (old,)), calls[2], Call("fsync", 2, (b"/w/",))]

    def left(calls: list[Call]) -> set[tuple[tuple[bytes, bytes | None], ...]]:
        return {tuple(state.items()) for state, _ in crashes_of(Path("/w"), tmp_path / "before", calls)}

    either_way = {(), ((b"old", b""),), ((b"old", b"da"),), ((b"old", b"data"),)}
    assert left(calls) == either_way | {((b"new", b""),), ((b"new", b"da"),)}
    assert left(synced) == either_way | {((b"new", b"data"),)}


def test_a_world_is_written_as_it_was_read(tmp_path: Path) -> None:
    """Folders that are empty included."""
    state: State = {b"a": None, b"a/b": b"bytes", b"empty": None}
    assert read(write(state, tmp_path / "top")) == state
