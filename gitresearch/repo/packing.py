"""Packing: loose objects cost git fourteen times a packed one, so they are packed once they pile up.

Nothing is ever pruned. Objects go into packs by a geometric repack, which merges small packs and leaves big ones alone,
and loose refs into `packed-refs`; both are git's own and are safe beside running writers. A packer that dies leaves
lock files that the next one knows to be stale, because git inherits the packer's kernel lock and is gone once that is
free.
"""

import os
import subprocess
from pathlib import Path

from gitresearch.errors import GitResearchError
from gitresearch.repo.child import command, environment
from gitresearch.repo.locks import Busy, Held, KernelLock
from gitresearch.repo.refs import TRIALS
from gitresearch.repo.stream import loose_objects
from gitresearch.text import one_line

MANY_OBJECTS = 6700  # as git gc --auto has it
MANY_REFS = 2000


def pack_if_needed(git_dir: Path, common_dir: Path) -> bool:
    """Pack what has piled up. False where that is little, or another packer is at work."""
    objects, refs = loose_objects(common_dir / "objects") > MANY_OBJECTS, _loose_refs(common_dir) > MANY_REFS
    if not objects and not refs:
        return False
    try:
        with KernelLock(common_dir, "pack")(wait=0) as held:
            held.intend(f"{common_dir}/packed-refs.lock")
            if objects:
                _repack(git_dir, held)
            if refs:
                _git(git_dir, held, "pack-refs", "--all")
    except Busy:
        return False
    return True


def _repack(git_dir: Path, held: Held) -> None:
    options = ["repack", "-d", "-l", "-q"]
    try:
        _git(git_dir, held, *options, "--geometric=2")
    except UnknownOption:  # git before 2.33
        _git(git_dir, held, *options)


class UnknownOption(GitResearchError):
    """An older git."""


def _git(git_dir: Path, held: Held, *arguments: str) -> None:
    done = subprocess.run(
        command(git_dir, *arguments),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        pass_fds=(held.descriptor,),
        check=False,
    )
    if done.returncode == 129:
        raise UnknownOption(f"git {arguments[0]} knows no {arguments[-1]}")
    if done.returncode:
        why = one_line(done.stderr.decode("utf-8", "replace"), 200)
        raise GitResearchError(f"git {arguments[0]} failed: {why}", f"git {' '.join(arguments)}")


def _loose_refs(common_dir: Path) -> int:
    try:
        studies = [entry.path for entry in os.scandir(common_dir / TRIALS) if entry.is_dir()]
    except FileNotFoundError:
        return 0
    return sum(len(os.listdir(path)) for path in studies)
