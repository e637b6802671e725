"""Calling the git program: the repository named, nothing inherited, nothing of the repository's run.

The environment of a git hook or of a test names other repositories and indexes; hooks and a file-system monitor are
programs that a configuration can name. None of that reaches a child of ours.
"""

import os
from pathlib import Path

_SAFE = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "gc.auto=0", "maintenance.auto=false", "core.fsync=all")


def command(git_dir: Path, *arguments: str) -> list[str]:
    """A git command line on this repository."""
    settings = [part for setting in _SAFE for part in ("-c", setting)]
    return ["git", f"--git-dir={git_dir}", "--no-replace-objects", *settings, *arguments]


def environment() -> dict[str, str]:
    """This process's environment without git's variables, save those that say where its configuration is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    config = {name: value for name, value in os.environ.items() if name.startswith("GIT_CONFIG_")}
    return kept | config | {"LC_ALL": "C"}
