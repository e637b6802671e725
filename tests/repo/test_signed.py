"""Every notes commit is signed by the evaluator that its ref names, as git itself checks it."""

import secrets
import subprocess
from pathlib import Path

import pytest

from gitresearch.errors import GitResearchError
from gitresearch.repo import NewTrial, Repo
from gitresearch.repo.identity import key_file
from gitresearch.repo.objects import print_commit, signed_part
from gitresearch.signing import Key, signer
from tests.build import add_trial, git, hypothesis, outcome, plain_repo, record, study_repo


def verified(repo: Repo, ref: str, listed: str) -> bool:
    """Whether git takes the commit for one that a listed key signed."""
    path = repo.git_dir / "allowed"
    path.write_text(listed)
    setting = ("-c", f"gpg.ssh.allowedSignersFile={path}")
    done = subprocess.run(
        ["git", "-C", str(repo.git_dir), *setting, "verify-commit", ref], check=False, capture_output=True
    )
    return done.returncode == 0


def test_git_takes_our_signatures(repo: Repo, tmp_path: Path) -> None:
    """On outcomes, proposals and imports; only for the listed key and its principal."""
    trial = add_trial(repo, "try")
    record(repo, trial, 1.0)
    repo.record_proposal(trial.oid, b"schema = 1\n")
    me = repo.evaluator_id()
    listed = f'{me} namespaces="git" {repo.key.line}\n'
    for kind in ("outcomes", "proposals"):
        ref = f"refs/notes/gitresearch/{kind}/{me}"
        assert verified(repo, ref, listed)
        assert not verified(repo, ref, f"{me} {Key.make(tmp_path / kind).line}\n")
    (oid,) = repo.import_trials([NewTrial(hypothesis("more"), (trial.oid,), {"a": b"b"}, 1_800_000_000, outcome(2.0))])
    assert verified(repo, f"refs/notes/gitresearch/outcomes/{me}", listed)
    assert repo.outcome(oid) is not None


def test_we_take_gits_signatures(repo: Repo, tmp_path: Path) -> None:
    """A commit that git signed, with headers around the signature, is taken apart as git put it together."""
    key = Key.make(tmp_path / "key")
    top = plain_repo(tmp_path / "signed")
    sign = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={tmp_path / 'key'}")
    encoding = ("-c", "i18n.commitEncoding=ISO-8859-1")
    git(top, *sign, *encoding, "commit", "-S", "--allow-empty", "-m", "a subject\n\ngpgsig none in here")
    raw = subprocess.run(["git", "-C", str(top), "cat-file", "commit", "HEAD"], capture_output=True, check=True).stdout
    assert b"\nencoding ISO-8859-1\n" in raw
    payload, signature = signed_part(raw)
    assert signer(signature, payload) == key.public
    who = "Ada <ada@example.org> 1 +0000"
    assert signed_part(print_commit("0" * 40, [], who, who, "message\n")) == (
        print_commit("0" * 40, [], who, who, "message\n"), "",
    )  # fmt: skip


def test_no_two_clones_share_a_key(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that has a key already is another clone's, and another is drawn."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))  # where no other test has drawn one of these
    drawn = iter(["0000", "0000", "0001"])
    monkeypatch.setattr(secrets, "token_hex", lambda _size: next(drawn))
    other = study_repo(tmp_path / "other")
    assert (repo.evaluator_id()[-4:], other.evaluator_id()[-4:]) == ("0000", "0001")
    assert repo.key.public != other.key.public


def test_a_lost_key_is_told(repo: Repo) -> None:
    """Nobody else goes on with its notes; under a new name measuring goes on, and the old notes stay."""
    trials = [add_trial(repo, f"try {n}") for n in range(2)]
    record(repo, trials[0], 1.0)
    key_file(repo.evaluator_id()).unlink()
    other = Repo.open(repo.git_dir, durable=False)
    with pytest.raises(GitResearchError, match="is not there") as caught:
        record(other, trials[1], 1.0)
    assert "git config --unset gitresearch.evaluator" in caught.value.hint
    git(repo, "config", "--unset", "gitresearch.evaluator")
    record(Repo.open(repo.git_dir, durable=False), trials[1], 1.0)
    assert len(git(repo, "for-each-ref", "refs/notes/gitresearch/outcomes").splitlines()) == 2
