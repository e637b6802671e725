"""Writing a pack: many objects in one file and its index, for imports. (git's gitformat-pack(5), version 2.)

The objects are whole, without deltas: git makes those when it repacks. One file of thousands of objects costs one sync
instead of thousands, and 20 µs an object less than a file each.
"""

import hashlib
import itertools
import os
import struct
import zlib
from pathlib import Path

import pygit2
from pygit2.enums import ObjectType

from gitresearch.repo.objects import discard, name_object, sync_folder, write_all

_TYPES = {"commit": 1, "tree": 2, "blob": 3}
_KINDS = {"commit": ObjectType.COMMIT, "tree": ObjectType.TREE, "blob": ObjectType.BLOB}
_COUNTER = itertools.count()


class Overlay:
    """Objects that are being gathered for a pack, over those that the repository holds already."""

    def __init__(self, odb: pygit2.Odb) -> None:
        self._odb = odb
        self.objects: dict[str, tuple[str, bytes]] = {}

    def write(self, kind: str, data: bytes) -> str:
        """Gather an object and return its oid."""
        oid, _ = name_object(kind, data)
        self.objects[oid] = (kind, data)
        return oid

    def read(self, oid: str) -> tuple[int, bytes]:
        """An object's type as libgit2 numbers it, and its bytes. KeyError where it is missing."""
        found = self.objects.get(oid)
        if found is not None:
            return _KINDS[found[0]], found[1]
        kind, data = self._odb.read(oid)
        return kind, data

    def read_header(self, oid: str) -> tuple[int, int]:
        """An object's type and size in bytes."""
        kind, data = self.read(oid)
        return kind, len(data)

    def save(self, folder: Path, *, durable: bool) -> None:
        """Write what was gathered as one pack; it is complete before git can see it."""
        if self.objects:
            write_pack(self.objects, folder, durable=durable)
        self.objects = {}


def write_pack(objects: dict[str, tuple[str, bytes]], folder: Path, *, durable: bool) -> None:
    """Write a pack and its index; the index comes last, because git looks for that."""
    body, index = _packed(objects)
    name = hashlib.sha1("".join(sorted(objects)).encode(), usedforsecurity=False).hexdigest()
    folder.mkdir(exist_ok=True)
    for suffix, data in (("pack", body), ("idx", index)):
        temporary = f"{folder}/tmp_{suffix}_{os.getpid()}_{next(_COUNTER)}"  # noqa: S108  git prunes it
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
            try:
                write_all(handle, data)
                if durable:
                    os.fsync(handle)
            finally:
                os.close(handle)
            os.rename(temporary, folder / f"pack-{name}.{suffix}")
        except BaseException:
            discard(temporary)
            raise
    if durable:
        sync_folder(str(folder))


def _packed(objects: dict[str, tuple[str, bytes]]) -> tuple[bytes, bytes]:
    parts = [b"PACK" + struct.pack(">II", 2, len(objects))]
    at = 12
    places: list[tuple[bytes, int, int]] = []
    for oid, (kind, data) in objects.items():
        entry = _head(_TYPES[kind], len(data)) + zlib.compress(data, 1)
        places.append((bytes.fromhex(oid), zlib.crc32(entry), at))
        parts.append(entry)
        at += len(entry)
    if at >= 1 << 31:
        raise ValueError("too much for one pack")  # larger ones need a second table of offsets
    whole = b"".join(parts)
    digest = hashlib.sha1(whole, usedforsecurity=False).digest()
    return whole + digest, _index(sorted(places), digest)


def _head(kind: int, size: int) -> bytes:
    """An entry's type and size: four bits of the size, then seven a byte."""
    first, size = (kind << 4) | (size & 15), size >> 4
    out = bytearray()
    while size:
        out.append(first | 0x80)
        first, size = size & 0x7F, size >> 7
    out.append(first)
    return bytes(out)


def _index(places: list[tuple[bytes, int, int]], digest: bytes) -> bytes:
    counts = [0] * 256
    for oid, _, _ in places:
        counts[oid[0]] += 1
    number = len(places)
    body = b"".join(
        [
            b"\xfftOc" + struct.pack(">I", 2),
            struct.pack(">256I", *itertools.accumulate(counts)),
            b"".join([oid for oid, _, _ in places]),
            struct.pack(f">{number}I", *[crc for _, crc, _ in places]),
            struct.pack(f">{number}I", *[at for _, _, at in places]),
            digest,
        ]
    )
    return body + hashlib.sha1(body, usedforsecurity=False).digest()
