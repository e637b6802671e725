"""Forgeries of commits, notes and refs: each is told by the audit, and would pass one that is weaker by one rule."""

import importlib
import pkgutil
from pathlib import Path

import pytest

from gitresearch.repo import Repo
from tests.attacks import forgeries
from tests.attacks.victim import NAME, Victim

NAMES = [found.name for found in pkgutil.iter_modules(forgeries.__path__)]


def test_an_honest_study_has_nothing_to_find(victim: Victim) -> None:
    """Keep, crash, discard, baseline and a confirmed claim, each measured here, all follow."""
    report = victim.audit()
    assert report.findings == []
    assert (report.trials, report.outcomes, len(report.evaluators)) == (4, 4, 1)
    assert {victim.outcome(victim.trial(status)).summary.status for status in ("keep", "crash", "discard")}
    assert victim.outcome(victim.trial("keep")).summary.confirmed


@pytest.fixture(scope="session")
def tips(honest: Path) -> dict[str, str]:
    """What an audit saw before the forgery."""
    return Victim(honest, Repo.open(honest).key, Repo.open(honest).key).audit().tips


@pytest.mark.parametrize("name", NAMES)
def test_it_is_found(name: str, victim: Victim, tips: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim that does not follow is named, and without the one rule that is meant to find it, it is not."""
    forgery = importlib.import_module(f"tests.attacks.forgeries.{name}")
    forgery.attack(victim)
    found = {finding.claim for finding in victim.audit(tips).findings}
    assert forgery.CLAIM in found
    assert found <= {forgery.CLAIM, *getattr(forgery, "ALSO", ())}
    for target, weak in forgery.WITHOUT.items():
        monkeypatch.setattr(target, weak)
    assert forgery.CLAIM not in {finding.claim for finding in victim.audit(tips).findings}


def test_each_says_what_it_is() -> None:
    """One sentence for whoever reads the list."""
    for name in NAMES:
        told = (importlib.import_module(f"tests.attacks.forgeries.{name}").__doc__ or "").strip()
        assert told.endswith(".")
        assert "\n" not in told


def test_a_best_that_a_kill_left_behind_is_no_forgery(victim: Victim) -> None:
    """Between a claim's outcome and the branch it is the best of before; the next run moves it."""
    victim.git("update-ref", "refs/heads/best/honest", victim.trial("baseline"))
    assert victim.audit().findings == []


def test_each_study_has_evaluators_of_its_own(victim: Victim) -> None:
    """Who measures for another study of the repository need not be listed by this one, as long as it keeps to that."""
    base = victim.repo.study_base(NAME) or ""
    toml = victim.git("show", f"{base}:study.toml").replace('name = "honest"', 'name = "other"')
    (victim.top / "study.toml").write_text(toml)
    victim.git("commit", "--quiet", "-am", "ask something else")
    victim.repo.pin_study("other", victim.repo.head_commit())
    other = victim.repo.make_baseline("other", victim.repo.head_commit())
    theirs = "refs/notes/gitresearch/outcomes/thief"
    victim.say(other.oid, b"whatever they say", victim.thief, theirs)
    assert {one.claim for one in victim.audit().findings} == {"an outcome that can be read"}
    victim.say(victim.trial("discard"), victim.outcome(victim.trial("discard")), victim.thief, theirs)
    assert "the evaluator signed it" in {one.claim for one in victim.audit().findings}
