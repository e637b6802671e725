"""A sealed git world: no test sees the person's home, their git configuration, their time zone or their locale.

libgit2 finds configuration by search paths of its own, which it reads once at import; so they are set here too.
"""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pygit2
import pytest
from hypothesis import settings
from pygit2.enums import ConfigLevel

# Machines under load are slow now and then: no deadline. HYPOTHESIS_PROFILE=thorough looks longer.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the collector need not look through it again and again."""
    gc.freeze()


_CONFIG = """\
[user]
\tname = Ada Tester
\temail = ada@example.org
[init]
\tdefaultBranch = main
[advice]
\tdetachedHead = false
[gc]
\tauto = 0
"""


@pytest.fixture(scope="session", autouse=True)
def sealed_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One home for the whole session, which holds nothing but a git identity."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(_CONFIG, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        patch.setenv("XDG_DATA_HOME", str(home / "data"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
        patch.setenv("GIT_TERMINAL_PROMPT", "0")
        patch.setenv("TZ", "UTC")
        patch.setenv("LC_ALL", "C.UTF-8")
        # No test pulls the plug in this process; those that look at what is synced do it in one of their own.
        patch.setattr(os, "fsync", lambda _handle: None)
        pygit2.settings.search_path[ConfigLevel.GLOBAL] = str(home)
        for level in (ConfigLevel.XDG, ConfigLevel.SYSTEM, ConfigLevel.PROGRAMDATA):
            pygit2.settings.search_path[level] = str(home / "none")
        yield home
