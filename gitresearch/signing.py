"""SSH signatures, made and checked in this process: 0.2 ms each, where ssh-keygen takes 9.

The formats are OpenSSH's own: keys as ssh-keygen writes them, signatures as PROTOCOL.sshsig says, signers as in
ssh-keygen(1) under ALLOWED SIGNERS; so `git verify-commit` and `ssh-keygen -Y verify` read what is made here. Only
Ed25519, the one kind of key that evaluators have.
"""

import base64
import hashlib
import os
import re
import shlex
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from gitresearch.errors import FormatError, GitResearchError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

GIT = "git"  # the namespace in which git signs commits and tags
KIND = b"ssh-ed25519"
_MAGIC = b"SSHSIG"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_LINE = 70
MAX_SIGNATURE = 4096


@dataclass(frozen=True)
class Signer:
    """One line of an allowed-signers file: who may sign with a key, and what."""

    principals: tuple[str, ...]
    key: bytes  # as on the wire: kind and point
    namespaces: tuple[str, ...] = ()  # none: every one

    def may(self, principal: str, namespace: str) -> bool:
        """Whether the key may sign in the name of `principal`."""
        named = any(fnmatchcase(principal, pattern) for pattern in self.principals)
        return named and (not self.namespaces or any(fnmatchcase(namespace, one) for one in self.namespaces))


class Key:
    """A private key; it is in no repr, note or log."""

    def __init__(self, private: "Ed25519PrivateKey") -> None:
        self._private = private
        self.public = _string(KIND) + _string(private.public_key().public_bytes_raw())

    @classmethod
    def make(cls, path: Path) -> "Key":
        """A new key in a file that only its owner reads, whole or not there. FileExistsError where one is."""
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  (40 ms that only signing pays)
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        private = Ed25519PrivateKey.generate()
        form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, staged = tempfile.mkstemp(prefix=".", dir=path.parent)  # 0600
        try:
            with open(handle, "wb") as file:
                file.write(private.private_bytes(*form))
                file.flush()
                os.fsync(handle)
            os.link(staged, path)
        finally:
            os.unlink(staged)
        return cls(private)

    @classmethod
    def load(cls, path: Path) -> "Key":
        """The key in a file. FileNotFoundError where there is none, GitResearchError where others can read it."""
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_SIGNATURE)
        if mode & 0o077:
            raise GitResearchError(f"the key {path} can be read by others", f"chmod 600 {shlex.quote(str(path))}")
        try:
            private = serialization.load_ssh_private_key(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            private = None
        if not isinstance(private, Ed25519PrivateKey):
            raise GitResearchError(f"{path} holds no Ed25519 key without a passphrase", f"ssh-keygen -y -f {path}")
        return cls(private)

    @property
    def line(self) -> str:
        """The public part as files of keys have it: `ssh-ed25519 AAAA…`."""
        return f"{KIND.decode()} {base64.b64encode(self.public).decode()}"

    def sign(self, data: bytes, namespace: str = GIT) -> str:
        """An armoured signature."""
        inner = self._private.sign(_signed(data, namespace))
        parts = [self.public, namespace.encode(), b"", b"sha512", _string(KIND) + _string(inner)]
        blob = _MAGIC + (1).to_bytes(4) + b"".join(map(_string, parts))
        text = base64.b64encode(blob).decode()
        lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
        return "\n".join([_BEGIN, *lines, _END, ""])

    def sign_raw(self, data: bytes) -> bytes:
        """A bare Ed25519 signature, for envelopes that say themselves what they are about; never SSH's or git's."""
        return self._private.sign(data)


def fingerprint(public: bytes) -> str:
    """A public key in short, as ssh-keygen shows it: `SHA256:…`."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(public).digest()).decode().rstrip("=")


def signer(signature: str, data: bytes, namespace: str = GIT) -> bytes:
    """The public key that made a signature over the data. FormatError where none did, or it is no signature of ours."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    blob = _unarmoured(signature)
    if blob[:6] != _MAGIC or blob[6:10] != (1).to_bytes(4):
        raise FormatError("the signature is not of SSH's form")
    public, space, _reserved, digest, inner = _strings(blob[10:], 5)
    kind, point = _strings(public, 2)
    made_by, raw = _strings(inner, 2)
    if kind != KIND or made_by != KIND or digest not in (b"sha512", b"sha256"):
        raise FormatError("the signature is by no Ed25519 key")
    if space != namespace.encode():
        raise FormatError(f"the signature is not for {namespace}")
    try:
        Ed25519PublicKey.from_public_bytes(point).verify(raw, _signed(data, namespace, digest.decode()))
    except (InvalidSignature, ValueError):
        raise FormatError("the signature does not fit what it signs") from None
    return public


def signers(text: str) -> list[Signer]:
    """The Ed25519 keys of an allowed-signers file. FormatError, with the line's number, where one can't be read."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                made = _signer(line)
            except (ValueError, IndexError, StopIteration, FormatError):
                raise FormatError(f"line {number} is no line of allowed signers") from None
            found += [made] if made else []
    return found


def _signer(line: str) -> Signer | None:
    """A line: principals, options, kind, key, comment. None for a kind of key that no evaluator has."""
    words = shlex.split(line, comments=False)
    at = next(index for index, word in enumerate(words[1:], 1) if re.fullmatch(r"(ssh|ecdsa|sk)-[\w@.-]+", word))
    options = ",".join(words[1:at])
    unknown = re.sub(r"namespaces=[\w*?,.@-]*", "", options).strip(",")
    if unknown or re.search(r"[!\[\]]", words[0]):  # what narrows a key's use must not be passed over: valid-before, …
        raise ValueError(unknown)
    namespaces = re.search(r"namespaces=([\w*?,.@-]*)", options)
    key = base64.b64decode(words[at + 1], validate=True)
    if words[at].encode() != KIND:
        return None
    if _strings(key, 2)[0] != KIND:
        raise ValueError("the key is of another kind")
    return Signer(tuple(words[0].split(",")), key, tuple(namespaces[1].split(",")) if namespaces else ())


def allowed(known: Iterable[Signer], principal: str, key: bytes, namespace: str = GIT) -> bool:
    """Whether a key is listed for who is said to have signed."""
    return any(one.key == key and one.may(principal, namespace) for one in known)


def _signed(data: bytes, namespace: str, digest: str = "sha512") -> bytes:
    parts = [namespace.encode(), b"", digest.encode(), hashlib.new(digest, data).digest()]
    return _MAGIC + b"".join(map(_string, parts))


def _unarmoured(text: str) -> bytes:
    lines = text.strip().split("\n")
    if len(text) > MAX_SIGNATURE or len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise FormatError("there is no SSH signature")
    try:
        return base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError:
        raise FormatError("the signature is not of SSH's form") from None


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


def _strings(data: bytes, count: int) -> list[bytes]:
    """The strings that data is made of, exactly so many. FormatError where it is not."""
    found = []
    for _ in range(count):
        size = int.from_bytes(data[:4])
        if len(data) < 4 + size:
            raise FormatError("the signature is not of SSH's form")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    if data:
        raise FormatError("the signature is not of SSH's form")
    return found
