"""Where our own folders lie."""

from pathlib import Path

import pytest

from gitresearch import folders


def test_folders_follow_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each kind has its variable; an empty one counts for none, and the cache has a variable of ours before it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")
    usual = [tmp_path / name / "gitresearch" for name in (".config", ".local/state", ".cache")]
    assert [folders.config(), folders.state(), folders.cache()] == usual

    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, f"/x/{name}")
    assert folders.config() == Path("/x/XDG_CONFIG_HOME/gitresearch")
    assert folders.state() == Path("/x/XDG_STATE_HOME/gitresearch")
    assert folders.cache() == Path("/x/XDG_CACHE_HOME/gitresearch")
    monkeypatch.setenv("GITRESEARCH_CACHE", "/y")
    assert folders.cache() == Path("/y/gitresearch")
