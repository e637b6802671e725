"""Files that a power cut left empty, as ext4 does with what was not synced: told in a sentence with what to type."""

from pathlib import Path

import pytest

from gitresearch.cli.main import run as gitresearch
from gitresearch.repo import Repo
from tests.build import git
from tests.crashes import session
from tests.crashes.nursery import copy

VERBS = (["log"], ["show", "best"], ["propose", "--from-worktree", "-m", "more"])
OBJECTS = (
    ("trial", ""),
    ("trial", "^{tree}"),
    ("trial", ":train.py"),
    ("notes", ""),
    ("notes", "^{tree}"),
    ("study", ""),
)
REFS = ("trial", "notes", "best", "study")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was run to its end."""
    top = session.world(tmp_path_factory.mktemp("emptied") / "world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(top / "config"))
        session.go_on(top, durable=False)
    return top


def refs_of(repo: Repo) -> dict[str, str]:
    """The refs of a study by a short name."""
    trial = repo.find("best", session.NAME)
    return {
        "trial": f"refs/heads/{trial.branch}",
        "notes": f"refs/notes/gitresearch/outcomes/{repo.evaluator_id()}",
        "best": f"refs/heads/best/{session.NAME}",
        "study": f"refs/gitresearch/studies/{session.NAME}",
    }


@pytest.mark.parametrize(("ref", "object_"), [*OBJECTS, *((name, None) for name in REFS)])
def test_an_emptied_file_is_told_with_the_command_to_type(
    finished: Path, world: Path, ref: str, object_: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each verb works or says what is wrong and what to type; none ends in a bug of ours, and the audit finds it."""
    top = copy(finished, world) / "study"
    repo = Repo.open(top)
    (world / "signers").write_text(repo.signer_line())
    audit = ["audit", "--signers", str(world / "signers")]
    assert gitresearch(["-C", str(top), *audit]) == 0
    name = refs_of(repo)[ref]
    oid = git(top, "rev-parse", name + (object_ or "")).strip()
    path = top / ".git" / (name if object_ is None else f"objects/{oid[:2]}/{oid[2:]}")
    path.unlink()
    path.touch()
    for verb in (audit, *VERBS):
        code = gitresearch(["-C", str(top), *verb])
        said = capsys.readouterr().err
        assert code in ((1, 4) if verb is audit else (0, 1)), said
        assert code != 1 or "\n  try: " in said
