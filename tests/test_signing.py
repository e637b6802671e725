"""Signatures: OpenSSH and git take ours, we take theirs, and nothing that was changed passes."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitresearch.errors import FormatError, GitResearchError
from gitresearch.signing import Key, allowed, fingerprint, signer, signers


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return Key.make(tmp_path_factory.mktemp("keys") / "one")


def ssh(*words: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ssh-keygen", *map(str, words)], input=given, capture_output=True, check=False)


def test_what_was_signed_is_known_by_its_key(key: Key) -> None:
    """For the data and the namespace it was made for, and for no other."""
    signature = key.sign(b"data")
    assert signer(signature, b"data") == key.public
    for data, namespace in ((b"date", "git"), (b"data", "file"), (b"", "git")):
        with pytest.raises(FormatError, match="signature"):
            signer(signature, data, namespace)


@given(st.data())
def test_no_changed_signature_passes(key: Key, data: st.DataObject) -> None:
    """Whichever character is another, it is refused with a sentence, or is the same signature written otherwise."""
    signature = key.sign(b"data")
    at = data.draw(st.integers(0, len(signature) - 2))
    char = data.draw(st.characters(codec="ascii").filter(lambda one: one != signature[at]))
    try:
        assert signer(signature[:at] + char + signature[at + 1 :], b"data") == key.public
        assert char.isspace() or signature[at].isspace()
    except FormatError:
        pass


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_what_is_no_signature_is_refused(text: str) -> None:
    """Whatever stands there, nothing but FormatError comes of it."""
    for wrong in (text, f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----"):
        with pytest.raises(FormatError):
            signer(wrong, b"data")


def test_openssh_and_we_take_each_others_signatures(tmp_path: Path) -> None:
    """Key, signature and allowed signers are OpenSSH's own formats, in both directions."""
    key = Key.make(tmp_path / "ours")
    (tmp_path / "allowed").write_text(f'ada namespaces="git" {key.line}\n')
    (tmp_path / "sig").write_text(key.sign(b"data"))
    check = ("-Y", "verify", "-f", tmp_path / "allowed", "-I", "ada", "-n", "git", "-s", tmp_path / "sig")
    assert ssh(*check, given=b"data").returncode == 0
    assert ssh(*check, given=b"date").returncode != 0
    theirs = ssh("-Y", "sign", "-f", tmp_path / "ours", "-n", "git", given=b"data").stdout.decode()
    assert signer(theirs, b"data") == key.public
    assert ssh("-y", "-f", tmp_path / "ours").stdout.decode().split()[:2] == key.line.split()
    assert fingerprint(key.public) in ssh("-l", "-f", tmp_path / "ours").stdout.decode()
    ssh("-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "new")
    assert Key.load(tmp_path / "new").line == " ".join((tmp_path / "new.pub").read_text().split()[:2])


def test_a_key_is_its_owners_alone(tmp_path: Path) -> None:
    """It is made 0600 in a folder of 0700, never over another, and refused where others can read it."""
    path = tmp_path / "keys" / "one"
    made = Key.make(path)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(path.parent.iterdir()) == [path]
    assert Key.load(path).public == made.public
    with pytest.raises(FileExistsError):
        Key.make(path)
    assert Key.load(path).public == made.public
    path.chmod(0o640)
    with pytest.raises(GitResearchError, match="read by others") as caught:
        Key.load(path)
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize("kind", [("-t", "ecdsa"), ("-t", "ed25519", "-N", "secret words"), ()])
def test_a_file_that_holds_no_key_for_us(tmp_path: Path, kind: tuple[str, ...]) -> None:
    """Other kinds, passphrases and other files are told in a sentence that holds nothing of the file."""
    path = tmp_path / "key"
    path.write_text("nothing of the kind\n")
    path.chmod(0o600)
    if kind:
        path.unlink()
        ssh("-q", *(("-N", "") if "-N" not in kind else ()), *kind, "-f", path)
    with pytest.raises(GitResearchError, match="holds no Ed25519 key without a passphrase"):
        Key.load(path)


def test_who_may_sign(key: Key, tmp_path: Path) -> None:
    """A key speaks for the principals and namespaces of its line, and keys of other kinds speak for nobody."""
    ssh("-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "other-kind")
    ecdsa = (tmp_path / "other-kind.pub").read_text()
    text = f'# ours\n\nada,gpu-* namespaces="git,file" {key.line} a comment\neve {ecdsa}'
    (line,) = known = signers(text)
    assert line.key == key.public
    assert allowed(known, "ada", key.public)
    assert allowed(known, "gpu-box-1", key.public)
    assert not allowed(known, "eve", key.public)
    assert not allowed(known, "ada", key.public, "mail")
    assert not allowed(known, "ada", Key.make(tmp_path / "other").public)
    assert allowed(signers(f"eve {key.line}"), "eve", key.public, "mail")


@pytest.mark.parametrize(
    "line",
    [
        "ada",
        "ada ssh-ed25519",
        "ada ssh-ed25519 !!!",
        "ada ssh-ed25519 AAAA",
        "ada cert-authority {key}",
        'ada valid-before="20200101" {key}',
        "!ada,* {key}",
        "[a]da {key}",
        'ada namespaces="git {key}',
    ],
)
def test_a_line_that_says_more_than_we_read_is_refused(key: Key, line: str) -> None:
    """An option that narrows what a key may do is never passed over."""
    with pytest.raises(FormatError, match="line 2 is no line of allowed signers"):
        signers(f"# first\n{line.format(key=key.line)}\n")
