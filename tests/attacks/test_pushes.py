"""Malicious pushes: each is refused by a guarded server, and would pass a gate that is weaker by one rule."""

import importlib
import pkgutil
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from gitresearch import sync
from gitresearch.cli.main import run as gitresearch
from gitresearch.guard import Update, check
from gitresearch.repo import Repo
from tests.attacks import pushes
from tests.attacks.victim import NAME, Victim
from tests.build import git
from tests.gitservers import http

NAMES = [found.name for found in pkgutil.iter_modules(pushes.__path__)]


def module(name: str) -> ModuleType:
    return importlib.import_module(f"tests.attacks.pushes.{name}")


def bare(path: Path) -> Path:
    git(path.parent, "init", "--quiet", "--bare", path.name)
    return path


@pytest.fixture(scope="session")
def server(honest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository that holds all of the honest study, guarded; to be copied or left alone."""
    top = bare(tmp_path_factory.mktemp("server") / "study.git")
    git(honest, "push", "--quiet", str(top), "refs/*:refs/*")
    assert gitresearch(["-C", str(top), "guard"]) == 0
    return top


def refs(top: Path) -> dict[str, str]:
    lines = git(top, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return {ref: oid for ref, oid in map(str.split, lines)}


def changed(old: dict[str, str], new: dict[str, str]) -> list[Update]:
    """What a push that makes a server's refs those of a clone asks for."""
    both = sorted(old.keys() | new.keys())
    return [Update(old.get(ref, ""), new.get(ref, ""), ref) for ref in both if old.get(ref) != new.get(ref)]


def asked(server: Path, victim: Victim) -> set[str]:
    """The claims that the gate finds wanting, asked as the hook asks it: the new objects lie elsewhere."""
    repo = Repo.open(server, durable=False, cache=False)
    repo.also_read(victim.top / ".git" / "objects")
    return {finding.claim for finding in check(repo, changed(refs(server), refs(victim.top)))}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_refused(name: str, server: Path, victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim that does not follow is named, and without the rules that are meant to find it the push would pass."""
    push = module(name)
    push.attack(victim)
    assert push.CLAIM in asked(server, victim)
    for target, weak in push.WITHOUT.items():
        monkeypatch.setattr(target, weak)
    assert asked(server, victim) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_git_refuses_it(name: str, server: Path, victim: Victim, tmp_path: Path) -> None:
    """`git push --force` says why in our words, and nothing on the server has moved, our own files among it."""
    top = tmp_path / "study.git"
    shutil.copytree(server, top)
    before = refs(top)
    module(name).attack(victim)
    specs = [f"{update.new}:{update.ref}" for update in changed(before, refs(victim.top))]
    done = subprocess.run(
        ["git", "-C", str(victim.top), "push", "--force", str(top), *specs], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f": expected: {module(name).CLAIM}; found: " in done.stderr
    assert "pre-receive hook declined" in done.stderr
    assert refs(top) == before
    assert not (top / "gitresearch").exists()


def test_each_says_what_it_is() -> None:
    """One sentence for whoever reads the list."""
    for name in NAMES:
        told = (module(name).__doc__ or "").strip()
        assert told.endswith(".")
        assert "\n" not in told


def test_an_honest_push_passes_and_reads_no_other_trial(
    server: Path, victim: Victim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a study to an empty server; a further trial and version of an outcome to one that has it all. The list of
    all trials is never asked for: there may be 100,000."""
    oid = victim.trial("discard")
    monkeypatch.delattr(Repo, "trials")
    assert asked(bare(tmp_path / "empty.git"), victim) == set()
    text = victim.git("show", "main:train.py").replace("LR = 0.1", "LR = 0.3").encode()
    victim.add(oid, {"train.py": text})
    victim.say(oid, victim.outcome(oid).note() + b"# again\n", victim.key)
    victim.git("update-ref", "refs/heads/anything", "main")
    assert asked(server, victim) == set()
    assert asked(server, victim) == set()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["path", "http"])
def test_an_honest_study_is_pushed_to_a_guarded_server(way: str, victim: Victim, tmp_path: Path) -> None:
    """The hook sees the objects that git holds back until it has run, by any transport; a clone of it audits clean."""
    top = bare(tmp_path / "study.git")
    assert gitresearch(["-C", str(top), "guard"]) == 0
    with http(tmp_path) as url:
        victim.git("remote", "add", "origin", str(top) if way == "path" else f"{url}/study.git")
        report = sync.push(victim.repo, say=lambda _: None)
        assert (len(report.trials), report.studies, report.left) == (4, (NAME,), ())
        victim.git("push", "--quiet", "origin", "main")
    sync.clone(str(top), tmp_path / "clone", lambda _: None)
    assert Victim(tmp_path / "clone", victim.key, victim.thief).audit().findings == []
