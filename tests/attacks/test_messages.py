"""Malicious messages and answers: each is refused, cleaned or quoted, and would not be without one rule."""

import importlib
import pkgutil
from contextlib import suppress
from pathlib import Path

import pytest

from gitresearch.errors import GitResearchError
from tests.attacks import messages
from tests.attacks.table import Table

NAMES = [found.name for found in pkgutil.iter_modules(messages.__path__)]
TALKS = ("edits_the_ruler", "tool_call_in_a_file", "tool_call_markup")  # with a model, in rounds
CASES = [pytest.param(name, marks=[pytest.mark.slow] if name in TALKS else []) for name in NAMES]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key for the model, and no proxy between."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("name", CASES)
def test_it_gets_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it wanted does not happen, by an error that says why or by its words being made harmless; without the rule
    that is meant to stop it, it does."""
    message = importlib.import_module(f"tests.attacks.messages.{name}")
    strong, other = Table(tmp_path / "strong"), Table(tmp_path / "weak")
    with suppress(GitResearchError):
        assert not message.attack(strong)
    for target, weak in message.WITHOUT.items():
        monkeypatch.setattr(target, weak)
    assert message.attack(other)


def test_each_says_what_it_is() -> None:
    """One sentence for whoever reads the list."""
    for name in NAMES:
        told = (importlib.import_module(f"tests.attacks.messages.{name}").__doc__ or "").strip()
        assert told.endswith(".")
        assert "\n" not in told
