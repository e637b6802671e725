"""The verb that tells what this machine can do: which sandbox holds, what works inside it, and what runs on what."""

import os
import platform
import shutil
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import click
import psutil

from gitresearch import __version__, folders, machine, sandbox
from gitresearch.cli.context import open_study, say
from gitresearch.cli.look import as_json, emit
from gitresearch.errors import GitResearchError
from gitresearch.evaluate import Evaluator
from gitresearch.sandbox import Rung, Sandbox
from gitresearch.text import printable


@dataclass(frozen=True)
class Found:
    """A rung, whether it is the one that trials run in, and what works inside: empty where it does, else why not."""

    rung: Rung
    chosen: bool
    works: dict[str, str] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        box = self.rung.box
        told = {"level": self.rung.level, "description": box.description if box else "", "fault": self.rung.fault}
        return {**told, "holds": not self.rung.fault, "chosen": self.chosen, "works": self.works}


@click.command(short_help="Tell which sandbox holds here, and what works in it.")
@as_json
@click.option("--quick", is_flag=True, help="Leave out training inside, which takes minutes the first time.")
def doctor(json_: bool, quick: bool) -> None:
    """Tell which sandbox holds here, and what works in it.

    Each sandbox of the ladder is tried by a program that reads, writes, connects and signals where it must not, and by
    one that trains with torch, loads data in worker processes and compiles. What was found is remembered until the
    machine starts again. In a study its interpreter is looked at, elsewhere the one that runs gitresearch. Exit 1
    where no sandbox holds.
    """
    python = _interpreter()
    rungs = sandbox.rungs(folders.cache())
    first = next((rung for rung in rungs if not rung.fault), None)
    if first is not None and not quick:
        say("training inside each sandbox; this takes minutes the first time since the machine started")
    found = [Found(rung, rung is first, {} if quick else _works(rung, python)) for rung in rungs]
    if json_:
        emit({"sandboxes": [one.data() for one in found], **_facts(python)})
    else:
        _print(found, _facts(python))
    if first is None:
        raise GitResearchError("no sandbox holds here", sandbox.hint(rungs))


def _interpreter() -> str:
    """The study's, where there is a study."""
    with suppress(GitResearchError):
        opened = open_study()
        with closing(Evaluator(opened.repo, opened.study, "", Sandbox("none", ""), folders.cache())) as evaluator:
            return evaluator.python
    return sys.executable


def _works(rung: Rung, python: str) -> dict[str, str]:
    if rung.box is None or rung.fault:
        return {}
    try:
        return sandbox.abilities(rung.box, folders.cache(), python)
    except GitResearchError as error:
        return {"python": error.message}


def _facts(python: str) -> dict[str, Any]:
    """What else a person who helps would ask for."""
    cache = folders.cache()
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    found: dict[str, Any] = {"gitresearch": __version__, "interpreter": python}
    found |= {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    try:
        found |= machine.facts(python)
    except GitResearchError as error:
        found["interpreter"] = error.message
    found["git"] = _version("git")
    found["bubblewrap"] = _version("bwrap")
    found["landlock_abi"] = sandbox.landlock_abi()
    found["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found["memory_mb"] = psutil.virtual_memory().total >> 20
    return {**found, "cache": str(cache), "cache_free_mb": shutil.disk_usage(there).free >> 20, "root": _is_root()}


def _is_root() -> bool:
    return os.getuid() == 0


def _version(program: str) -> str:
    """The last word of what it says of its version; empty where it is not there."""
    if shutil.which(program) is None:
        return ""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return (done.stdout.split() or [""])[-1] if program == "bwrap" else done.stdout.removeprefix("git version").strip()


def _print(found: list[Found], facts: dict[str, Any]) -> None:
    for one in found:
        verdict = "chosen" if one.chosen else "no" if one.rung.fault else "holds"
        told = one.rung.fault or (one.rung.box.description if one.rung.box else "")
        click.echo(f"{one.rung.level:<12} {verdict:<7} {printable(told)}")
        for name, why in one.works.items():
            verdict = "works" if not why else "skipped" if why.startswith("skipped") else "FAILS"
            click.echo(f"{'':<12} {verdict:<7} {name}{': ' + printable(why) if why else ''}")
    click.echo()
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):<16} {printable(str(value)) or '-'}")
