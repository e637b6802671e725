"""One honest study for all attacks, copied for each."""

import shutil
from pathlib import Path

import pytest

from gitresearch.repo import Repo
from gitresearch.signing import Key
from tests.attacks.victim import Victim, finished


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("attacked") / "study")


@pytest.fixture
def victim(honest: Path, tmp_path: Path) -> Victim:
    top = tmp_path / "study"
    shutil.copytree(honest, top)
    return Victim(top, Repo.open(honest).key, Key.make(tmp_path / "thief"))
