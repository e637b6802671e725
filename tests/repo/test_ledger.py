"""Reading everything: in one pass, by the difference, out of the cache: always the same answer as from git alone."""

import random
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest

from gitresearch.errors import FormatError
from gitresearch.repo import NewTrial, Record, Repo
from gitresearch.repo import cache as cache_module
from gitresearch.repo import store as store_module
from gitresearch.trial import Trial
from tests.build import STUDY, TIME, add_trial, git, hypothesis, outcome, put_raw, record, study_repo


def cold(repo: Repo) -> list[Record]:
    """What a new process without a cache reads."""
    return Repo.open(repo.git_dir, cache=False).trials()


def other_evaluator(repo: Repo, name: str) -> Repo:
    """The same repository under another evaluator's name."""
    git(repo, "config", "gitresearch.evaluator", name)
    return Repo.open(repo.git_dir, durable=False)


def imported(repo: Repo, count: int, *, start: int = 0) -> list[str]:
    """Many trials at once, three of four with an outcome."""
    base = repo.head_commit()
    return repo.import_trials(
        NewTrial(
            hypothesis(f"try {n}", body="because …" if n % 5 == 0 else "because"),
            [n // 2] if n else [base],
            {"train.py": f"LR = {n + start}\n".encode()},
            TIME + n + start,
            outcome(float(n * 7 % 101), "keep" if n % 3 else "discard", reason="−ü" if n % 2 else "")
            if n % 4
            else None,
        )
        for n in range(count)
    )


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache is worth making for any number of trials."""
    monkeypatch.setattr(store_module, "WORTH_MAKING", 0)
    monkeypatch.setattr(store_module, "WORTH_STORING", 0)


def test_a_second_reading_takes_in_what_changed(repo: Repo) -> None:
    """New trials, replaced outcomes, deleted branches, packed refs: the difference gives what a cold read gives."""
    trials = [add_trial(repo, f"try {n}") for n in range(4)]
    assert repo.trials() == cold(repo)
    record(repo, trials[0], 1.0)
    assert repo.trials() == cold(repo)
    record(repo, trials[0], 2.0)
    git(repo, "pack-refs", "--all")
    trials.append(add_trial(repo, "later", [trials[0]]))
    assert repo.trials() == cold(repo)
    git(repo, "update-ref", "-d", f"refs/heads/{trials[1].branch}")
    git(repo, "update-ref", "-d", f"refs/heads/{trials[4].branch}")
    assert repo.trials() == cold(repo)
    assert len(repo.trials()) == 3
    git(repo, "update-ref", "-d", f"refs/notes/gitresearch/outcomes/{repo.evaluator_id()}")
    assert repo.trials() == cold(repo)
    assert [r.summary for r in repo.trials()] == [None] * 3


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("seed", range(3))
def test_random_histories_read_alike_by_every_way(repo: Repo, seed: int) -> None:
    """Whatever is done in whatever order: the ledger of a long process, the cache and a cold read agree."""
    dice, trials = random.Random(seed), [add_trial(repo, "root")]
    steps = ["trial", "trial", "record", "record", "delete", "pack", "import", "bad note", "look", "gc"]
    for n in range(25):
        step = dice.choice(steps)
        if step == "trial":
            trials.append(add_trial(repo, f"try {n}", [dice.choice(trials)]))
        elif step == "record":
            record(repo, dice.choice(trials), dice.random(), dice.choice(["keep", "discard", "crash"]))
        elif step == "delete":
            git(repo, "update-ref", "-d", f"refs/heads/{dice.choice(trials).branch}")
        elif step == "pack":
            git(repo, "pack-refs", "--all")
        elif step == "gc":
            git(repo, "repack", "-adq")
        elif step == "import":
            imported(repo, 6, start=1000 * n)
        elif step == "bad note":
            git(repo, "notes", "--ref=gitresearch/outcomes/other", "add", "-f", "-m", "scrawl", dice.choice(trials).oid)
        else:
            assert Repo.open(repo.git_dir).latest(STUDY, 5) == cold(repo)[:-6:-1]
        assert repo.trials() == cold(repo), step
    assert Repo.open(repo.git_dir).trials() == cold(repo)
    fresh = Repo.open(repo.git_dir)
    assert fresh.latest(STUDY, 4) == Repo.open(repo.git_dir, cache=False).latest(STUDY, 4)
    for direction in ("min", "max"):
        assert fresh.leaders(STUDY, 4, direction) == Repo.open(repo.git_dir, cache=False).leaders(STUDY, 4, direction)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["packs", "one pack", "loose"])
def test_many_trials_read_alike_packed_and_loose(repo: Repo, state: str) -> None:
    """A child of git's reads packs, we read loose objects; both give what was written."""
    oids = imported(repo, 900)
    if state == "one pack":
        git(repo, "repack", "-adq")
    elif state == "loose":
        packs = repo.common_dir / "objects/pack"
        moved = repo.common_dir / "moved"
        packs.rename(moved)
        packs.mkdir()
        for pack in moved.glob("*.pack"):
            with pack.open("rb") as data:
                subprocess.run(["git", f"--git-dir={repo.git_dir}", "unpack-objects", "-q"], stdin=data, check=True)
    found = cold(repo)
    assert [r.trial.oid for r in found] == oids
    assert [r.summary.score if r.summary else None for r in found] == [
        float(n * 7 % 101) if n % 4 else None for n in range(900)
    ]
    assert {r.trial.hypothesis.body for r in found} == {"because", "because …"}
    assert [r.trial.parents[0] for r in found[1:]] == [oids[n // 2] for n in range(1, 900)]


def test_broken_notes_hide_no_trial(repo: Repo) -> None:
    """A scrawl, binary bytes and a foreign note leave the trial in the list with the reason."""
    trials = [add_trial(repo, f"try {n}") for n in range(4)]
    ref = f"--ref=gitresearch/outcomes/{repo.evaluator_id()}"
    record(repo, trials[3], 1.0)
    (repo.git_dir / "bytes").write_bytes(b"\xff\0\xfe" * 50)
    git(repo, "notes", ref, "add", "-m", "looks good to me", trials[0].oid)
    git(repo, "notes", ref, "add", "-F", str(repo.git_dir / "bytes"), trials[1].oid)
    (repo.git_dir / "bytes").write_bytes(b"x" * 70_000)
    git(repo, "notes", ref, "add", "-F", str(repo.git_dir / "bytes"), trials[2].oid)
    found = repo.trials()
    assert len(found) == 4
    assert [bool(r.broken) for r in found if r.summary is None] == [True] * 3
    assert [r.trial for r in found if r.summary] == [trials[3]]
    with pytest.raises(FormatError):
        repo.outcome(trials[0].oid)


def test_refs_that_are_no_trials_are_reported(repo: Repo) -> None:
    """A person's branch under `trial/`, a moved one and a nested one are oddities; the trials beside them are read."""
    trial = add_trial(repo)
    git(repo, "branch", "trial/mine", "HEAD")
    git(repo, "branch", "trial/demo/deep/er-00000000", "HEAD")
    git(repo, "branch", "trial/demo/moved-12345678", trial.oid)
    git(repo, "branch", f"trial/other/stolen-{trial.short}", trial.oid)
    assert [record.trial for record in repo.trials()] == [trial]
    assert {oddity.ref for oddity in repo.oddities} == {
        "refs/heads/trial/mine", "refs/heads/trial/demo/deep/er-00000000", "refs/heads/trial/demo/moved-12345678",
        f"refs/heads/trial/other/stolen-{trial.short}",
    }  # fmt: skip
    assert all(oddity.why for oddity in repo.oddities)


def test_missing_objects_hide_no_other_trial(repo: Repo) -> None:
    """A commit or a note that was lost is named; the rest is read."""
    kept, lost = add_trial(repo, "kept"), add_trial(repo, "lost")
    record(repo, kept, 1.0)
    note = git(repo, "notes", f"--ref=gitresearch/outcomes/{repo.evaluator_id()}", "list", kept.oid).strip()
    for oid in (lost.oid, note):
        (repo.common_dir / "objects" / oid[:2] / oid[2:]).unlink()
    found = Repo.open(repo.git_dir)
    assert [(r.trial.oid, r.broken) for r in found.trials()] == [(kept.oid, "the note's blob is missing or broken")]
    assert [(o.oid, o.why) for o in found.oddities] == [(lost.oid, "its commit is missing or broken")]


def test_of_several_evaluators_the_earliest_counts(repo: Repo) -> None:
    """A second opinion does not overwrite the first; what can't be read counts last."""
    one, two = add_trial(repo, "one"), add_trial(repo, "two")
    b = other_evaluator(repo, "b")
    record(b, one, 2.0, at="2026-01-02T00:00:00Z")
    git(b, "notes", "--ref=gitresearch/outcomes/b", "add", "-m", "scrawl", two.oid)
    a = other_evaluator(repo, "a")
    record(a, one, 1.0, at="2026-01-03T00:00:00Z")
    record(a, two, 3.0, at="2026-01-04T00:00:00Z")
    counts = {r.trial: (r.evaluator, r.summary and r.summary.score) for r in repo.trials()}
    assert counts == {one: ("b", 2.0), two: ("a", 3.0)}
    assert repo.trials() == cold(repo)
    outcomes = [repo.outcome(trial.oid) for trial in (one, two)]
    assert [found and found.summary.score for found in outcomes] == [2.0, 3.0]


def test_the_study_narrows_the_list(repo: Repo) -> None:
    """Trials of another study in the same repository stay out."""
    repo.pin_study("other", repo.head_commit())
    mine, other = add_trial(repo, "mine"), add_trial(repo, "theirs", study="other")
    assert [r.trial for r in repo.trials(STUDY)] == [mine]
    assert [r.trial for r in repo.trials("other")] == [other]
    assert repo.trials("none") == repo.latest("none") == repo.leaders("none") == []


def test_leaders_are_the_measured_ones(repo: Repo) -> None:
    """Ranked by score in the study's direction; a disqualified and a failed one never lead."""
    for score, status in [(3.0, "keep"), (1.0, "disqualified"), (2.0, "discard"), (None, "crash"), (5.0, "baseline")]:
        record(repo, add_trial(repo, f"{status} {score}"), score, status)
    assert [r.summary and r.summary.score for r in repo.leaders(STUDY, 2)] == [2.0, 3.0]
    assert [r.summary and r.summary.score for r in repo.leaders(STUDY, 9, "max")] == [5.0, 3.0, 2.0]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("damage", ["garbage", "truncated", "emptied", "old version", "a directory", "dropped table"])
def test_a_damaged_cache_costs_time_only(repo: Repo, damage: str) -> None:
    """Whatever is done to the file, answers stay right, and no one is told."""
    imported(repo, 60)
    Repo.open(repo.git_dir).trials()
    path = repo.common_dir / "gitresearch/cache.sqlite"
    assert path.exists()
    if damage == "garbage":
        path.write_bytes(b"\x00garbage" * 4000)
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "a directory":
        path.unlink()
        path.mkdir()
    else:
        with sqlite3.connect(path) as db:
            db.execute(
                "UPDATE state SET value = 'old' WHERE key = 'version'"
                if damage == "old version"
                else "DROP TABLE heads"
            )
        db.close()
    expected = cold(repo)
    assert Repo.open(repo.git_dir).latest(STUDY, 5) == expected[:-6:-1]
    assert Repo.open(repo.git_dir).trials() == expected
    assert Repo.open(repo.git_dir).leaders(STUDY, 1) == Repo.open(repo.git_dir, cache=False).leaders(STUDY, 1)


@pytest.mark.usefixtures("eager")
def test_many_readers_share_one_cache(repo: Repo) -> None:
    """Readers that update the cache at once beside a writer never give a wrong answer."""
    imported(repo, 300)
    problems: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            found = Repo.open(repo.git_dir).trials()
            oids = {record.trial.oid for record in found}
            if len(oids) < 300 or len(oids) != len(found):
                problems.append(f"{len(found)} records")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    trials: list[Trial] = []
    for n in range(10):
        trials.append(add_trial(repo, f"beside {n}"))
        record(repo, trials[-1], 1.0)
    stop.set()
    for reader in readers:
        reader.join()
    assert not problems
    assert Repo.open(repo.git_dir).trials() == cold(repo)
    assert cold(repo)[-1].trial == max(trials, key=lambda t: (t.time, t.oid))


def test_small_studies_make_no_cache(repo: Repo) -> None:
    """Below a few thousand trials reading git is as fast, and nothing is left lying about."""
    add_trial(repo)
    repo.latest(STUDY)
    Repo.open(repo.git_dir).leaders(STUDY)
    assert not (repo.common_dir / "gitresearch/cache.sqlite").exists()


def test_a_cache_in_a_read_only_place_is_passed_over(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it can't be written, reading goes on without."""
    monkeypatch.setattr(store_module, "WORTH_MAKING", 0)
    add_trial(repo)

    def refuse(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(cache_module.sqlite3, "connect", refuse)
    assert len(Repo.open(repo.git_dir).trials()) == 1


def test_an_import_equals_writing_one_by_one(repo: Repo, tmp_path: Path) -> None:
    """The same commits, branches and notes, and nothing that fsck could complain of; a second import adds nothing."""
    oids = imported(repo, 200)
    assert imported(repo, 200) == oids
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""
    other = study_repo(tmp_path / "other")
    assert git(other, "rev-parse", "HEAD^{tree}") == git(repo, "rev-parse", "HEAD^{tree}")
    base = repo.head_commit()
    git(other, "fetch", "--quiet", str(repo.git_dir), base)
    for record_ in cold(repo)[:5]:
        trial = record_.trial
        data = repo.read_file(trial.oid, "train.py")
        git(other, "fetch", "--quiet", str(repo.git_dir), trial.parents[0])
        assert other.make_trial(trial.hypothesis, trial.parents, {"train.py": data}, time=trial.time) == trial


def test_packing_changes_no_answer(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loose objects and refs go into packs, nothing else changes, and a small repository is left as it is."""
    assert repo.pack_if_needed() is False
    trials = [add_trial(repo, f"try {n}") for n in range(20)]
    for trial in trials:
        record(repo, trial)
    unnamed = put_raw(repo, "blob", b"named by nobody yet")
    before = cold(repo)
    from gitresearch.repo import packing, stream

    monkeypatch.setattr(packing, "MANY_OBJECTS", 0)
    monkeypatch.setattr(packing, "MANY_REFS", 10)
    sample = Path(repo.common_dir, "objects", stream.SAMPLE)
    sample.mkdir(exist_ok=True)
    (sample / ("0" * 38)).touch()
    try:
        assert repo.pack_if_needed() is True
    finally:
        (sample / ("0" * 38)).unlink(missing_ok=True)
    assert cold(repo) == before == repo.trials()
    assert not list((repo.common_dir / "refs/heads/trial").rglob("try-*"))
    assert repo.blob(unnamed) == b"named by nobody yet"
    assert sum(len(list(path.iterdir())) for path in (repo.common_dir / "objects").glob("??")) < 5
    record(repo, add_trial(repo, "after", [trials[0]]), 1.0)
    assert repo.trials() == cold(repo)
