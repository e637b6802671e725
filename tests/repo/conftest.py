"""One repository with a study, for every test of the store."""

from pathlib import Path

import pytest

from gitresearch.repo import Repo
from tests.build import study_repo


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repository with one commit, pinned as the base of the study `demo`; nothing is synced to disk."""
    return study_repo(tmp_path / "repo")
