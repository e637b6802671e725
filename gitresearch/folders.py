"""The user's own folders, where everything of ours lies that belongs to no repository: the XDG base directories."""

import os
from pathlib import Path


def config() -> Path:
    """What a person wrote, and the keys."""
    return _below("XDG_CONFIG_HOME", ".config")


def keys() -> Path:
    """The evaluators' private keys."""
    return config() / "keys"


def state() -> Path:
    """What is remembered between commands, and is nobody's to edit."""
    return _below("XDG_STATE_HOME", ".local/state")


def cache() -> Path:
    """Data and work in progress: all of it can be made again. GITRESEARCH_CACHE puts it elsewhere."""
    home = os.environ.get("GITRESEARCH_CACHE")
    return Path(home).absolute() / "gitresearch" if home else _below("XDG_CACHE_HOME", ".cache")


def _below(variable: str, usual: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / usual) / "gitresearch"
