"""Killed writers: what was acknowledged is there, git finds nothing broken, and no lock is left to remove by hand."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gitresearch.errors import GitResearchError
from gitresearch.repo import Repo, blob_oid, core, locks, packing
from gitresearch.repo.objects import Batch
from tests.build import STUDY, add_trial, git, outcome, record

WRITER = """
import os, sys
from pathlib import Path
from gitresearch.repo import Repo
from tests.build import add_trial, record
repo = Repo.open(Path(sys.argv[1]), durable=sys.argv[2] == "durable")
print("ready", flush=True)
for n in range(int(sys.argv[3])):
    trial = add_trial(repo, f"{os.getpid()} {n}")
    os.write(1, f"trial {trial.oid}\\n".encode())
    with repo.claim("demo", trial.oid, 60):
        record(repo, trial, float(n))
    os.write(1, f"outcome {trial.oid}\\n".encode())
    if n % 5 == 4:
        repo.set_best("demo", trial.oid, "killed soon")
"""


def writer(repo: Repo, count: int, *, prefix: tuple[str, ...] = (), durable: bool = False) -> subprocess.Popen[str]:
    """A process that writes trials and says which it was promised."""
    root = str(Path(__file__).parents[2])
    command = [*prefix, sys.executable, "-c", WRITER, str(repo.git_dir), "durable" if durable else "quick", str(count)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONPATH": root}
    )


def promises(said: str) -> tuple[set[str], set[str]]:
    """The trials and the outcomes that were acknowledged; a line cut short was not."""
    lines = [line.split() for line in said.split("\n")[:-1]]
    return {a[1] for a in lines if a[0] == "trial"}, {a[1] for a in lines if a[0] == "outcome"}


def check(repo: Repo, trials: set[str], outcomes: set[str]) -> None:
    """Every promise is kept, fsck is silent, and writing goes on without a hand's help."""
    found = {record.trial.oid: record for record in Repo.open(repo.git_dir, cache=False).trials()}
    assert trials <= found.keys()
    assert all(found[oid].summary for oid in outcomes)
    assert "error" not in git(repo, "fsck", "--strict", "--no-dangling")
    fresh = Repo.open(repo.git_dir, durable=False)
    fresh.clear_stale_locks()
    trial = add_trial(fresh, "after the crash")
    record(fresh, trial)
    fresh.set_best(STUDY, trial.oid, "after the crash")
    for info in fresh.claims(STUDY):
        with fresh.claim(STUDY, info.trial, 5) or pytest.fail("a dead owner's claim is not free"):
            pass
    assert not [path for path in (repo.common_dir / "refs").rglob("*.lock")]


def test_a_killed_writer_breaks_no_promise(repo: Repo) -> None:
    """Killed at random moments, again and again in one repository."""
    dice = random.Random(7)
    trials: set[str] = set()
    outcomes: set[str] = set()
    for _ in range(4):
        process = writer(repo, 10_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(dice.uniform(0.02, 0.2))
        process.kill()
        said = promises(process.communicate()[0])
        trials |= said[0]
        outcomes |= said[1]
        check(repo, trials, outcomes)
    assert trials


@pytest.mark.slow
def test_packing_beside_a_writer_disturbs_nobody(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects and refs are packed again and again while another process writes; everything it was promised is there."""
    monkeypatch.setattr(packing, "MANY_OBJECTS", -1)
    monkeypatch.setattr(packing, "MANY_REFS", 0)
    process = writer(repo, 60)
    packed = 0
    while process.poll() is None:
        packed += repo.pack_if_needed()
    trials, outcomes = promises(process.communicate()[0])
    assert process.returncode == 0
    assert len(trials) == len(outcomes) == 60
    assert packed
    check(repo, trials, outcomes)


def test_a_killed_packer_leaves_nothing_to_clean_up(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock on `packed-refs` is known for stale by the next packer, without a wait for it to grow old."""
    monkeypatch.setattr(packing, "MANY_OBJECTS", -1)
    add_trial(repo)
    lock = leftover(repo.common_dir / "packed-refs.lock", 0.0)
    (repo.common_dir / "gitresearch/pack.lock").write_bytes(os.fsencode(lock) + b"\0")
    assert repo.pack_if_needed()
    assert not lock.exists()
    with locks.KernelLock(repo.common_dir, "pack")():
        assert repo.pack_if_needed() is False


def open_below(folder: Path) -> list[str]:
    """The files under a folder that this process has open."""
    return [file.path for file in psutil.Process().open_files() if Path(file.path).is_relative_to(folder)]


@pytest.mark.parametrize("durable", [True, False])
def test_an_operation_that_fails_leaves_no_object(repo: Repo, durable: bool) -> None:
    """What was written before it failed is not there under its name, and its files and descriptors are gone."""
    objects = repo.common_dir / "objects"
    before = set(objects.rglob("*"))
    with contextlib.suppress(InterruptedError), Batch(objects, durable=durable) as batch:
        oids = [batch.write("blob", b"object %d" % n) for n in range(100)]
        assert len(list(objects.rglob("tmp_obj*"))) == len(open_below(objects)) == 36
        raise InterruptedError
    left = {path.name for path in objects.rglob("*") if path.is_file()} - {path.name for path in before}
    assert left == {oid[2:] for oid in oids[:64]}
    assert open_below(objects) == []


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("call", ["rename", "openat", "write", "fsync", "unlink", "close", "pwrite64"])
def test_a_writer_killed_at_a_system_call_breaks_no_promise(repo: Repo, tmp_path: Path, call: str) -> None:
    """Killed as it enters a system call; a dozen points are spread over those that three trials make."""
    trace = tmp_path / "trace"
    writer(
        repo, 3, prefix=("strace", "-f", "-qq", "-o", str(trace), f"--trace=write,{call}"), durable=True
    ).communicate()
    lines = [line.split(maxsplit=1) for line in trace.read_text().splitlines()]
    ready = next(n for n, (_, line) in enumerate(lines) if '"ready' in line)
    calls: dict[str, list[int]] = {}  # strace counts those of each thread
    for n, (thread, line) in enumerate(lines):
        if line.startswith(f"{call}("):
            calls.setdefault(thread, []).append(n)
    points = sorted({at + 1 for mine in calls.values() for at, n in enumerate(mine) if n > ready})
    killed = 0
    for when in points[:: max(1, len(points) // 12)]:
        prefix = ("strace", "-f", "-qq", "-o", "/dev/null", f"--inject={call}:signal=KILL:when={when}")
        process = writer(repo, 3, prefix=prefix, durable=True)
        said = process.communicate(timeout=60)[0]
        killed += said.count("outcome") < 3
        check(repo, *promises(said))
    assert killed >= 2  # a later run makes fewer calls than the recorded first one


def leftover(path: Path, age: float) -> Path:
    """A lock file that is so many seconds old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_the_lock_of_a_killed_gitresearch_goes_at_once(repo: Repo) -> None:
    """The next writer finds what its dead predecessor meant to write, and needs no age to know."""
    record(repo, add_trial(repo))
    ref = f"refs/notes/gitresearch/outcomes/{repo.evaluator_id()}"
    lock = leftover(repo.common_dir / f"{ref}.lock", 0.0)
    (repo.common_dir / "gitresearch/write.lock").write_bytes(os.fsencode(lock) + b"\0")
    began = time.monotonic()
    record(repo, add_trial(repo, "next"))
    assert time.monotonic() - began < 2
    assert not lock.exists()


def test_an_intent_never_removes_other_files(repo: Repo, tmp_path: Path) -> None:
    """Only lock files inside the git directory, whatever stands in the file."""
    victims = [tmp_path / "victim.lock", repo.common_dir / "config"]
    victims[0].touch()
    (repo.common_dir / "gitresearch/write.lock").write_bytes("\n".join(map(str, victims)).encode() + b"\0")
    add_trial(repo)
    assert all(path.exists() for path in victims)


def test_old_locks_of_anybody_are_cleared(repo: Repo) -> None:
    """A minute old and nobody has it open: gone, and named; a fresh or an open one stays."""
    old = leftover(repo.common_dir / "refs/heads/trial/demo/x-00000000.lock", 3600)
    packed = leftover(repo.common_dir / "packed-refs.lock", 3600)
    fresh = leftover(repo.common_dir / "refs/heads/trial/demo/y-00000000.lock", 1)
    held = leftover(repo.common_dir / "refs/notes/gitresearch/outcomes/z.lock", 3600)
    with held.open():
        assert repo.clear_stale_locks() == sorted(str(path.relative_to(repo.common_dir)) for path in (old, packed))
    assert fresh.exists()
    assert held.exists()


def test_a_write_waits_for_a_live_lock(repo: Repo) -> None:
    """Another git that holds a ref for a moment delays us, no more."""
    record(repo, add_trial(repo, "first"))
    trial = add_trial(repo, "second")
    lock = leftover(repo.common_dir / f"refs/notes/gitresearch/outcomes/{repo.evaluator_id()}.lock", 0.0)
    holder = subprocess.Popen(["sh", "-c", f"sleep 0.3; rm '{lock}'"])
    record(repo, trial)
    holder.wait()
    assert repo.outcome(trial.oid) == outcome()


def test_a_lock_that_stays_is_named(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some patience the error says which file it is and how to remove it."""
    monkeypatch.setattr(core, "PATIENCE_SECONDS", 0.1)
    trial = add_trial(repo)
    lock = leftover(repo.common_dir / f"refs/notes/gitresearch/outcomes/{repo.evaluator_id()}.lock", 0.0)
    with pytest.raises(GitResearchError, match="another git process holds") as caught:
        record(repo, trial)
    assert f"rm '{lock}'" in caught.value.hint


def test_a_write_clears_an_old_lock_in_its_way(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to call for it."""
    monkeypatch.setattr(core, "PATIENCE_SECONDS", 0.1)
    trial = add_trial(repo)
    leftover(repo.common_dir / f"refs/notes/gitresearch/outcomes/{repo.evaluator_id()}.lock", 3600)
    record(repo, trial)
    assert repo.outcome(trial.oid) == outcome()


def test_a_busy_writer_is_named(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own lock held for too long by another thread or process is an error, not a hang."""
    lock = locks.KernelLock(repo.common_dir, "write")
    with lock(), pytest.raises(GitResearchError, match="another gitresearch holds"), lock(wait=0.05):
        pass


def test_an_empty_object_of_a_power_cut_is_written_again(repo: Repo) -> None:
    """Without syncs a power cut leaves an empty file under the right name; the next write replaces it."""
    trial = add_trial(repo)
    repo.record_proposal(trial.oid, b"schema = 1\n", [b"precious"])
    oid = blob_oid(b"precious")
    path = repo.common_dir / "objects" / oid[:2] / oid[2:]
    path.chmod(0o644)
    path.write_bytes(b"")
    repo.record_proposal(trial.oid, b"schema = 1\n", [b"precious"])
    assert Repo.open(repo.git_dir).blob(oid) == b"precious"


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_objects_are_synced_before_the_ref_that_names_them(repo: Repo, tmp_path: Path) -> None:
    """Objects, then the branch, then the note's objects, then the notes ref: each is on disk before the next begins,
    and no object gets its name before its bytes are."""
    repo.evaluator_id()
    trace = tmp_path / "trace"
    prefix = ("strace", "-f", "-qq", "-y", "-e", "trace=fsync,rename", "-o", str(trace))
    process = writer(repo, 1, prefix=prefix, durable=True)
    process.communicate(timeout=60)
    pending: set[str] = set()
    synced: set[str] = set()
    begun: dict[str, str] = {}
    renamed = 0
    for line in trace.read_text().splitlines():
        thread = line.split()[0]
        if "fsync(" in line:
            begun[thread] = line.split("<")[1].split(">")[0]
        if "fsync" in line and line.endswith("= 0"):
            pending.discard(begun[thread])
            synced.add(begun[thread])
        elif 'rename("' in line and "/objects/" in line:
            assert line.split('"')[1] in synced
            pending.add(os.path.dirname(line.split('"')[3]))
        elif 'rename("' in line and "/refs/" in line:
            renamed += 1
            assert not pending, f"{line} before {pending} were synced"
    assert renamed >= 3
    assert len(synced) > 10


def test_locks_from_before_the_machines_start_are_cleared_at_once(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut ended whoever made them, however short ago that is."""
    lock = leftover(repo.common_dir / "refs/heads/trial/demo/x-00000000.lock", 10)
    assert repo.clear_stale_locks() == []
    monkeypatch.setattr(locks.psutil, "boot_time", lambda: time.time() - 5)
    assert repo.clear_stale_locks() == [str(lock.relative_to(repo.common_dir))]


def test_naming_an_evaluator_keeps_the_users_configuration(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stood in it stays, with its mode; a lock of another git on it is waited for, named, and left alone."""
    config = repo.common_dir / "config"
    config.chmod(0o600)
    before = config.read_text()
    monkeypatch.setattr(core, "PATIENCE_SECONDS", 0.1)
    lock = leftover(repo.common_dir / "config.lock", 0.0)
    with pytest.raises(GitResearchError, match="another git process holds") as caught:
        repo.evaluator_id()
    assert f"rm '{lock}'" in caught.value.hint
    assert config.read_text() == before
    lock.unlink()
    made = repo.evaluator_id()
    assert config.read_text().startswith(before)
    assert config.stat().st_mode & 0o777 == 0o600
    assert git(repo, "config", "gitresearch.evaluator") == f"{made}\n"
