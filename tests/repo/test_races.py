"""Several processes at once: no outcome is lost, no trial is claimed twice, and what a dead owner held is free."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from unittest.mock import Mock

import pytest

from gitresearch.errors import GitResearchError
from gitresearch.repo import Repo
from gitresearch.repo.claims import parse, print_claim, this_process
from gitresearch.repo.refs import Locked, Refs
from tests.build import STUDY, add_trial, git, outcome

SPAWN = multiprocessing.get_context("spawn")
DEAD_OWNER = """
import sys
from pathlib import Path
from gitresearch.repo import Repo
claim = Repo.open(Path(sys.argv[1])).claim("demo", sys.argv[2], 3600)
print(claim is not None)
"""


def record_some(path: str, oids: list[str], gate: Barrier) -> None:
    """One racer: outcomes for its share of the trials, as fast as it can."""
    repo = Repo.open(Path(path), durable=False)
    gate.wait(60)
    for oid in oids:
        repo.record(oid, outcome(float(int(oid[:4], 16))))


def claim_all(path: str, oids: list[str], gate: Barrier, into: str) -> None:
    """One racer: claims every trial it can get and writes down which."""
    repo = Repo.open(Path(path), durable=False)
    gate.wait(60)
    got = [oid for oid in oids if repo.claim(STUDY, oid, 3600)]
    Path(into).write_text(json.dumps(got))
    gate.wait(60)  # an owner that ends frees what it holds


def race(target: object, arguments: list[tuple[object, ...]]) -> None:
    """Run one process for each set of arguments and wait for all."""
    racers = [SPAWN.Process(target=target, args=args) for args in arguments]  # type: ignore[arg-type]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0] * len(racers)


@pytest.mark.slow
def test_eight_processes_lose_no_outcome(repo: Repo) -> None:
    """Eight evaluators of one clone append to one notes ref at once; all outcomes are there, in one chain."""
    trials = [add_trial(repo, f"try {n}") for n in range(64)]
    repo.evaluator_id()
    gate = SPAWN.Barrier(8)
    race(record_some, [(str(repo.git_dir), [t.oid for t in trials[n::8]], gate) for n in range(8)])
    assert all(r.summary and r.summary.score == float(int(r.trial.oid[:4], 16)) for r in repo.trials())
    ref = f"refs/notes/gitresearch/outcomes/{repo.evaluator_id()}"
    assert git(repo, "rev-list", "--count", ref).strip() == "64"
    assert git(repo, "rev-list", "--count", "--merges", ref).strip() == "0"
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""


@pytest.mark.slow
def test_four_processes_never_claim_one_trial_twice(repo: Repo, tmp_path: Path) -> None:
    """Every trial goes to exactly one of them."""
    oids = [add_trial(repo, f"try {n}").oid for n in range(30)]
    gate = SPAWN.Barrier(4)
    race(claim_all, [(str(repo.git_dir), oids, gate, str(tmp_path / f"got{n}")) for n in range(4)])
    got = [oid for n in range(4) for oid in json.loads((tmp_path / f"got{n}").read_text())]
    assert sorted(got) == sorted(oids)


def test_a_release_waits_for_a_live_git(repo: Repo) -> None:
    """A packing git holds the claim's lock file for a moment: the release waits, as every other write does."""
    trial = add_trial(repo)
    claim = repo.claim(STUDY, trial.oid, 60)
    assert claim is not None
    lock = repo.common_dir / f"refs/gitresearch/claims/{STUDY}/{trial.oid}.lock"
    lock.touch()
    timer = threading.Timer(0.1, lock.unlink)
    timer.start()
    claim.release()
    timer.join()
    assert repo.claims(STUDY) == []


@pytest.mark.parametrize(
    ("told", "raised"),
    [("failed to create locked file 'x.lock': File exists", Locked),
     ("failed to lock file 'x.lock' for writing: ", Locked),
     ("failed to make directory 'x': No such file or directory", Locked),
     ("failed to make directory 'x': Permission denied", OSError),
     ("failed to create locked file 'x.lock': No space left on device", OSError)],
)  # fmt: skip
def test_only_a_lock_that_is_there_is_waited_for(tmp_path: Path, told: str, raised: type[Exception]) -> None:
    """libgit2 tells both in the same way; a full disk is said at once, and not to be another program's doing."""
    reference = Mock(target="1" * 40)
    reference.delete.side_effect = OSError(told)
    refs = Refs(Mock(references={"refs/x": reference}), tmp_path, durable=False)
    with pytest.raises(raised):
        refs.delete("refs/x", "1" * 40)


def test_a_claim_is_held_renewed_and_released(repo: Repo) -> None:
    """While it is held nobody else gets the trial; once released anybody does, and the late owner can't renew."""
    oid = add_trial(repo).oid
    claim = repo.claim(STUDY, oid, 60, "screen")
    assert claim is not None
    assert repo.claim(STUDY, oid, 60) is None
    (info,) = repo.claims(STUDY)
    assert (info.trial, info.purpose, info.live, info.owner.pid) == (oid, "screen", True, os.getpid())
    before = info.expires
    assert claim.renew(600)
    assert repo.claims(STUDY)[0].expires > before + 500
    git(repo, "pack-refs", "--all")
    claim.release()
    claim.release()
    assert repo.claims(STUDY) == []
    assert not claim.renew(5)
    with repo.claim(STUDY, oid, 60) or pytest.fail("free, but not to be had"):
        assert len(repo.claims(STUDY)) == 1
    assert repo.claims(STUDY) == []


def test_an_expired_claim_can_be_taken(repo: Repo) -> None:
    """Its time is over, though its owner lives; the owner learns it when it renews or releases."""
    oid = add_trial(repo).oid
    late = repo.claim(STUDY, oid, 0)
    assert late is not None
    time.sleep(0.01)
    taken = repo.claim(STUDY, oid, 60)
    assert taken is not None
    assert not late.renew(60)
    late.release()
    assert [info.live for info in repo.claims(STUDY)] == [True]


def test_the_claim_of_a_dead_process_can_be_taken_at_once(repo: Repo) -> None:
    """An owner on this host that is gone holds nothing, long before its claim expires."""
    oid = add_trial(repo).oid
    said = subprocess.check_output([sys.executable, "-c", DEAD_OWNER, str(repo.git_dir), oid], text=True)
    assert said.strip() == "True"
    assert [info.live for info in repo.claims(STUDY)] == [False]
    assert repo.claim(STUDY, oid, 60) is not None


def test_who_counts_as_dead() -> None:
    """A reused pid, an earlier boot and an unreadable lease are dead; another host's owner lives until it expires."""
    me = this_process()
    until = time.time() + 60
    from dataclasses import replace

    def live(**changes: object) -> bool:
        return parse(STUDY, "0" * 40, print_claim(replace(me, **changes), until, "")).live  # type: ignore[arg-type]

    assert live()
    assert not live(started="1")
    assert not live(boot="an earlier one")
    assert not live(pid=2**22 + 1)
    assert live(host="elsewhere", pid=1, boot="", started="")
    assert not parse(STUDY, "0" * 40, print_claim(replace(me, host="elsewhere"), time.time() - 1, "")).live
    for scrawl in (b"", b"{}", b"\xff", b'{"host": 1, "expires": "soon"}'):
        assert not parse(STUDY, "0" * 40, scrawl).live


def test_a_ref_that_git_moved_is_not_written_on(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """`git notes` knows nothing of our lock: what it writes between our look and our write stays, and nothing of ours
    is put on top of it, since nobody's word below an unsigned commit counts."""
    one, two = add_trial(repo, "one"), add_trial(repo, "two")
    ref = f"--ref=gitresearch/outcomes/{repo.evaluator_id()}"
    refs = repo._refs
    set_ref, calls = refs.set, []

    def interrupted(name: str, oid: str, old: str | None) -> None:
        if not calls:
            calls.append(name)
            git(repo, "notes", ref, "add", "-m", outcome(2.0).note().decode(), two.oid)
        set_ref(name, oid, old)

    monkeypatch.setattr(refs, "set", interrupted)
    with pytest.raises(GitResearchError, match="has not signed"):
        repo.record(one.oid, outcome(1.0))
    assert {r.trial.subject: r.summary and r.summary.score for r in repo.trials()} == {"one": None, "two": 2.0}
