"""A person's own edit: any patch that git takes, from a file, a mail or the checkout, under everyone's rules."""

import tempfile
from pathlib import Path

import pytest

from gitresearch.agents.patch import edits_of, message_of, worktree
from gitresearch.cli.main import run
from gitresearch.errors import GitResearchError
from gitresearch.repo import Repo
from tests.build import git, plain_repo

FILES = {
    "train.py": b"LR = 0.1\nprint('val_loss:', 1 - LR)\n",
    "lib/model.py": b"WIDTH = 8\n",
    "data.bin": bytes(range(256)),
}
TOML = """
name = "demo"
[recipe]
train = "python train.py"
[objective]
metric = "val_loss"
[evaluator]
pattern = '''val_loss: (\\S+)'''
[[specialists]]
name = "one"
surface = ["train.py"]
[[specialists]]
name = "two"
surface = ["lib/"]
"""


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return plain_repo(tmp_path / "r", {**FILES, "study.toml": TOML.encode()})


def propose(top: Path, *more: str) -> int:
    return run(["-C", str(top), "propose", *more])


def test_the_checkout_becomes_a_trial_and_stays_as_it_is(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The specialist is the one whose surface holds the change; index, files and HEAD are not touched."""
    (top / "lib/model.py").write_text("WIDTH = 16\n")
    (top / "lib/new.py").write_text("DEPTH = 2\n")
    before = git(top, "status", "--porcelain"), git(top, "rev-parse", "HEAD")
    assert propose(top, "--from-worktree", "-m", "widen the model\n\nit is narrow", "--expect", "-0.1") == 0
    (trial,) = [r.trial for r in Repo.open(top).trials("demo") if r.trial.operator != "baseline"]
    assert capsys.readouterr().out.strip() == trial.oid
    assert (trial.subject, trial.hypothesis.body, trial.hypothesis.expected) == (
        "widen the model",
        "it is narrow",
        -0.1,
    )
    assert (trial.specialist, trial.hypothesis.assisted_by) == ("two", "")
    assert git(top, "show", f"{trial.oid}:lib/model.py") == "WIDTH = 16\n"
    assert git(top, "show", f"{trial.oid}:lib/new.py") == "DEPTH = 2\n"
    assert (git(top, "status", "--porcelain"), git(top, "rev-parse", "HEAD")) == before
    assert 'agent = "patch"' in (Repo.open(top).proposal(trial.oid) or b"").decode()


def test_a_mailed_patch_brings_its_own_hypothesis(top: Path, tmp_path: Path) -> None:
    """`git format-patch` of a commit, applied to a trial and not to the commit it was made on."""
    assert propose(top, "one", "--patch", str(mail(top, tmp_path))) == 0
    (trial,) = [r.trial for r in Repo.open(top).trials("demo") if r.trial.operator != "baseline"]
    assert (trial.subject, trial.hypothesis.body) == ("raise the rate — a bit", "It is low.\n\nVery.")
    assert git(top, "show", f"{trial.oid}:train.py").startswith("LR = 0.2\n")


def mail(top: Path, folder: Path) -> Path:
    """A commit made on a branch of one's own, as a file."""
    git(top, "checkout", "--quiet", "-b", "mine")
    (top / "train.py").write_text("LR = 0.2\nprint('val_loss:', 1 - LR)\n")
    git(top, "commit", "--quiet", "-am", "raise the rate — a bit\n\nIt is low.\n\nVery.")
    out = folder / "mail.patch"
    out.write_text(git(top, "format-patch", "--stdout", "-1"))
    git(top, "checkout", "--quiet", "-")
    return out


@pytest.mark.parametrize(
    ("change", "words", "told"),
    [
        ({"train.py": "LR = 0.2\n"}, ["two"], "outside the surface of two"),
        ({"train.py": "LR = 0.2\n", "lib/model.py": "WIDTH = 1\n"}, [], "lies in the surfaces of several specialists"),
        ({"train.py": "LR = (\n"}, [], "train.py"),
        ({}, [], "leaves the files of"),
        ({"train.py": "LR = 0.2\n"}, ["--agent", "offline"], "take no agent"),
        ({"train.py": "LR = 0.2\n"}, ["--parent", "none"], "no trial is called"),
        ({"train.py": "LR = 0.2\n"}, ["three"], "no specialist 'three'"),
        ({"x" * 20 + ".bin": "y" * (3 << 20)}, [], "is no plain file of at most"),
    ],
)
def test_a_change_that_breaks_a_rule_is_no_trial(
    top: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], words: list[str], told: str
) -> None:
    """One sentence, and nothing is made."""
    for path, text in change.items():
        (top / path).write_text(text)
    assert propose(top, "--from-worktree", "-m", "try it", *words) in (1, 2)
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said
    assert [r for r in Repo.open(top).trials("demo") if r.trial.operator != "baseline"] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--patch", "-", "--from-worktree"], "not both"),
        (["-m", "words"], "go with --patch"),
        (["--from-worktree"], "has no hypothesis"),
        (["--patch", "/nowhere"], "No such file"),
    ],
)
def test_options_that_do_not_go_together(
    top: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    """Usage is said at once."""
    (top / "train.py").write_text("LR = 0.2\n")
    assert propose(top, *words) in (1, 2)
    assert told in capsys.readouterr().err


def test_any_change_that_git_can_say(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, binary, new, deleted and renamed files come through byte for byte, also inside another repository."""
    (top / "data.bin").write_bytes(bytes(reversed(range(256))))
    (top / "train.py").write_bytes(b"LR = 0.2\r\n# \xc3\xa4")
    (top / "lib/words").write_bytes(b"\xff\n\r\n")
    git(top, "mv", "lib/model.py", "lib/net.py")
    (top / "lib/more.py").write_text("A = 1")
    patch, new = worktree(top / ".git", top, "")
    (plain_repo(tmp_path / "around") / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "around/tmp"))
    edits = edits_of(FILES, patch, new)
    assert edits == {
        "data.bin": bytes(reversed(range(256))), "train.py": b"LR = 0.2\r\n# \xc3\xa4", "lib/model.py": None,
        "lib/net.py": b"WIDTH = 8\n", "lib/more.py": b"A = 1", "lib/words": b"\xff\n\r\n",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        (b"--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-LR = 9\n+LR = 8\n", "not apply"),
        (b"--- a/none.py\n+++ b/none.py\n@@ -1 +1 @@\n-a\n+b\n", "not apply"),
        (b"--- a/../x\n+++ b/../x\n@@ -0,0 +1 @@\n+b\n", "not apply"),
        (b"words", "not apply"),
        (b"diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc/passwd\n"
         b"\\ No newline at end of file\n", "no ordinary file"),
        (b"\0\xff" * 100, "not apply"),
    ],
)  # fmt: skip
def test_a_patch_that_does_not_fit(patch: bytes, told: str) -> None:
    """What git refuses, and what no trial may hold, is an error that says how to go on."""
    with pytest.raises(GitResearchError, match=told) as caught:
        edits_of(FILES, patch)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (b"diff --git a/x b/x\n", ""),
        (b"Subject: [PATCH 2/3] [RFC] try it\n\nwhy\n---\n x | 1 +\n\ndiff --git a/x b/x\n", "try it\n\nwhy"),
        (b"From: a\n\nno subject\n", ""),
        (b"", ""),
    ],
)
def test_the_words_of_a_patch(patch: bytes, message: str) -> None:
    """A mail's subject and text; none for a bare diff."""
    assert message_of(patch) == message
