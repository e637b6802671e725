"""reproduce, revoke and export as a person types them, on a study that really ran."""

import base64
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gitresearch.cli.main import run as gitresearch
from gitresearch.outcome import summarise
from gitresearch.repo import Repo
from tests.build import git
from tests.test_cli import TOML, study

ALLOWED = [] if shutil.which("bwrap") else ["--allow-unsandboxed"]
# No noise: a test at 1 % is wrong one time in a hundred, and a test of it must not be.
TRAIN = """\
LR = 0.1
print(f"val_loss: {(LR - 0.3) ** 2:.6f}")
"""


@dataclass
class Clone:
    """Somebody's clone, and what its commands say."""

    top: Path
    out: str = ""
    err: str = ""

    def __call__(self, *words: str) -> int:
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = gitresearch(["-C", str(self.top), *words])
        self.out, self.err = out.getvalue(), err.getvalue()
        return code

    @property
    def repo(self) -> Repo:
        return Repo.open(self.top)

    def rows(self, *words: str) -> Any:
        assert self(*words, "--json") == 0, self.err
        return json.loads(self.out)

    def one(self, status: str) -> str:
        """The trial that ended so."""
        return next(str(row["trial"]) for row in self.rows("log") if row["status"] == status)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study with a keep and a crash, measured by one clone; the base lists a second clone's key as well."""
    top = tmp_path_factory.mktemp("second") / "study"
    mine = Clone(study(top, {"train.py": TRAIN}, TOML))
    theirs = Clone(top.parent / "theirs")
    git(top, "clone", "--quiet", str(top), str(theirs.top))
    (top / "allowed_signers").write_text(f"{mine.repo.signer_line()}\n{theirs.repo.signer_line()}\n")
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "-m", "list the signers")
    git(top, "init", "--quiet", "--bare", str(top.parent / "hub"))
    git(top, "remote", "add", "origin", str(top.parent / "hub"))
    assert mine("run", "--trials", "0", *ALLOWED) == 0, mine.err
    for new in ("LR = 0.2", "LR = 1 / 0"):
        (top / "train.py").write_text(TRAIN.replace("LR = 0.1", new))
        assert mine("propose", "--from-worktree", "-m", new, "--parent", "baseline") == 0, mine.err
    git(top, "checkout", "--quiet", "--", "train.py")
    assert mine("evaluate", *ALLOWED) == 0, mine.err
    return top, theirs.top


@pytest.fixture
def clones(finished: tuple[Path, Path], tmp_path: Path) -> tuple[Clone, Clone]:
    """Copies of both for one test, with a repository between them."""
    found = []
    for name, source in zip(("mine", "theirs"), finished, strict=True):
        shutil.copytree(source, tmp_path / name)
        git(tmp_path / name, "remote", "set-url", "origin", str(tmp_path / "hub"))
        found.append(Clone(tmp_path / name))
    git(tmp_path, "init", "--quiet", "--bare", str(tmp_path / "hub"))
    assert found[0]("push") == 0, found[0].err
    git(found[0].top, "push", "--quiet", "origin", "main")
    git(found[1].top, "pull", "--quiet", "origin", "main")  # a study runs where its base is checked out
    return found[0], found[1]


def test_a_second_clone_reproduces_a_finished_study(clones: tuple[Clone, Clone]) -> None:
    """It pulls, measures a keep and a crash again, pushes; then the first clone shows and audits both words."""
    mine, theirs = clones
    assert theirs("pull") == 0, theirs.err
    keep, crash = theirs.one("keep"), theirs.one("crash")
    assert theirs("reproduce", keep, crash, *ALLOWED) == 0, theirs.err
    lines = theirs.out.splitlines()
    assert lines[0].startswith(f"{keep[:8]}  claimed keep 0.0")
    assert [line.rpartition("  ")[2] for line in lines] == ["agrees", "agrees"]
    assert "found crash on 1 seed" in lines[1]
    assert theirs("audit") == 0, theirs.out
    assert theirs("push") == 0, theirs.err

    assert mine("pull") == 0, mine.err
    assert mine("audit") == 0, mine.out
    assert (mine.one("keep"), mine.rows("show", keep)["status"]) == (keep, "keep")
    who = theirs.repo.evaluator_id()
    told = mine.rows("show", keep)["witnesses"]
    assert [(word["evaluator"], word["n"], word["verdict"]) for word in told] == [(who, 2, "agrees")]
    assert mine("show", keep, "--no-diff") == 0
    assert f"witness {who}: agrees: 0.0" in mine.out
    both = git(mine.top, "log", "-1", "--notes=gitresearch/outcomes/*", keep)
    assert "# keep  val_loss" in both
    assert "# discard  val_loss" in both
    assert mine("reproduce", keep, *ALLOWED) == 0, mine.err
    assert [word["of"] for word in mine.rows("show", keep)["witnesses"]] == [mine.repo.evaluator_id()] * 2
    assert mine("audit") == 0, mine.out


def test_a_forged_score_is_told_by_whoever_measures_again(clones: tuple[Clone, Clone]) -> None:
    """The evaluator lies with its own key, so that an audit has nothing to find; a sample of all trials does."""
    mine, theirs = clones
    keep, told = mine.one("keep"), {row["trial"]: mine.repo.outcome(row["trial"]) for row in mine.rows("log")}
    honest = told[keep]
    assert honest is not None
    runs = tuple(replace(run, metrics={"val_loss": run.metrics["val_loss"] - 0.005}) for run in honest.runs)
    head = summarise("keep", "val_loss", runs, honest.summary.at)
    facts = {**honest.decision, "score": head.score, "gain": honest.decision["gain"] + 0.005}
    told[keep] = replace(honest, runs=runs, summary=head, decision=facts)
    ref = f"refs/notes/gitresearch/outcomes/{mine.repo.evaluator_id()}"
    for top in (mine.top, mine.top.parent / "hub"):
        git(top, "update-ref", "-d", ref)
    repo = mine.repo
    for oid, outcome in told.items():
        assert outcome is not None
        for run in outcome.runs:
            repo.start(oid, run.seed, run.purpose)
        repo.record(oid, outcome)
    assert mine("audit") == 0, mine.out

    assert (mine("push"), theirs("pull")) == (0, 0)
    assert theirs("reproduce", "--sample", "3", *ALLOWED) == 4
    assert {line[:8]: line.rpartition("  ")[2] for line in theirs.out.splitlines()} == {
        oid[:8]: "differs" if oid == keep else "agrees" for oid in told
    }
    assert "2 of 3 outcomes reproduced" in theirs.err
    assert theirs("audit") == 0, theirs.out


def test_what_there_is_to_look_at(clones: tuple[Clone, Clone]) -> None:
    """Trials or a sample, never both or none; and only what was measured."""
    mine, _ = clones
    assert mine("reproduce") == mine("reproduce", "best", "--sample", "1") == 2
    assert mine("propose", "--operator", "replicate", "--parent", "head") == 0, mine.err
    assert mine("reproduce", mine.one("pending"), *ALLOWED) == 1
    assert "has no outcome to reproduce" in mine.err


def test_a_sample_takes_each_trial_once(clones: tuple[Clone, Clone]) -> None:
    """K are drawn of those that this clone did not look at again; then there are none."""
    mine, _ = clones
    first = mine.rows("reproduce", "--sample", "2", "--seeds", "1", *ALLOWED)
    second = mine.rows("reproduce", "--sample", "9", "--seeds", "1", *ALLOWED)
    assert (len(first), len(second)) == (2, 1)
    assert len({row["trial"] for row in first + second}) == 3
    assert mine("reproduce", "--sample", "1", *ALLOWED) == 1
    assert "no trial is left" in mine.err


def test_what_is_taken_back_is_shown_as_that(clones: tuple[Clone, Clone]) -> None:
    """best and head go back to the baseline, the audit follows, and the trial keeps its runs and the reason."""
    mine, _ = clones
    keep = mine.one("keep")
    assert mine("revoke", keep, "--reason", "  ") == 2
    assert mine("revoke", keep, "--reason", "the hook read the wrong split") == 0, mine.err
    assert "head: " in mine.err
    row = mine.rows("show", keep)
    assert (row["status"], row["label"], row["reason"]) == ("invalid", "revoked", "the hook read the wrong split")
    assert len(row["runs"]) == 2
    assert mine.rows("best")["head"]["status"] == "baseline"
    assert mine("audit") == 0, mine.out
    assert mine("revoke", keep, "--reason", "again") == 1
    assert mine("propose", "--operator", "replicate", "--parent", keep) == 0, mine.err


# export


def payload(line: str) -> Any:
    return json.loads(base64.b64decode(json.loads(line)["payload"]))


def test_a_statement_says_what_the_note_says(clones: tuple[Clone, Clone]) -> None:
    """Subject, predicate and form are in-toto's; the signature is over the type and the bytes as DSSE lays them out."""
    mine, theirs = clones
    keep = mine.one("keep")
    assert mine("export", "--format", "intoto", keep) == 0, mine.err
    line = json.loads(mine.out)
    said, told = payload(mine.out), mine.rows("show", keep)
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "urn:gitresearch:outcome:v1"
    tree = git(mine.top, "rev-parse", f"{keep}^{{tree}}").strip()
    assert said["subject"] == [{"name": told["branch"], "digest": {"gitCommit": keep, "gitTree": tree}}]
    predicate = said["predicate"]
    assert (predicate["status"], predicate["score"], predicate["runs"]) == ("keep", told["score"], told["runs"])
    ref = f"refs/notes/gitresearch/outcomes/{predicate['evaluator']}"
    notes = git(mine.top, "log", "--format=%H", "-1", f"--grep={keep[:8]}", ref)
    assert predicate["notesCommit"] == notes.strip()

    kind, data = line["payloadType"].encode(), base64.b64decode(line["payload"])
    signed = b"DSSEv1 " + b" ".join(part for text in (kind, data) for part in (str(len(text)).encode(), text))
    point, signature = mine.repo.key.public[-32:], base64.b64decode(line["signatures"][0]["sig"])
    Ed25519PublicKey.from_public_bytes(point).verify(signature, signed)
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(point).verify(signature, signed[:-2] + b" }")
    assert mine("export") == 0
    assert len(mine.out.splitlines()) == 3
    assert theirs("pull") == 0
    assert theirs("export") == 0
    assert (theirs.out, "left out 3 outcomes of other evaluators" in theirs.err) == ("", True)


def test_a_library_of_others_takes_the_envelope(clones: tuple[Clone, Clone]) -> None:
    """securesystemslib, on which in-toto stands, reads and verifies it, and refuses it with a byte changed."""
    dsse = pytest.importorskip("securesystemslib.dsse")
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    mine, _ = clones
    assert mine("export", mine.one("crash")) == 0, mine.err
    line = json.loads(mine.out)
    name = line["signatures"][0]["keyid"]
    key = SSlibKey(name, "ed25519", "ed25519", {"public": mine.repo.key.public[-32:].hex()})
    read = dsse.Envelope.from_dict(json.loads(mine.out))
    assert list(read.verify([key], 1)) == [name]
    assert json.loads(read.payload)["predicate"]["status"] == "crash"
    read.payload = read.payload.replace(b'"crash"', b'"keep!"')
    with pytest.raises(VerificationError):
        read.verify([key], 1)
