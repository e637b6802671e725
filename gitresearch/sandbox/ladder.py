"""Which rung of the ladder holds here, found out by trying it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from gitresearch.errors import GitResearchError
from gitresearch.sandbox.process import run
from gitresearch.sandbox.world import Limits, Sandbox, World, seals_namespaces

# Runs inside: prints what it could reach. Every word but `started` is a hole.
_PROBE = """
import os, socket, sys
secret, outside, port, pid = sys.argv[1:]
found = ["started"]
def attempt(word, act):
    try:
        act()
        found.append(word)
    except OSError:
        pass
attempt("read a secret", lambda: open(secret).read())
attempt("wrote outside", lambda: open(outside, "w").write("x"))
attempt("reached the network", lambda: socket.create_connection(("127.0.0.1", int(port)), 0.5))
attempt("reached a process", lambda: os.kill(int(pid), 0))
attempt("read an environment", lambda: open(f"/proc/{pid}/environ", "rb").read())
attempt("wrote the root", lambda: os.rmdir(os.mkdir("/gitresearch-probe") or "/gitresearch-probe"))
attempt("could set the kernel", lambda: open("/proc/sys/kernel/core_pattern", "a").close())
print("|".join(found))
"""


def probe(box: Sandbox) -> list[str]:
    """What a program inside could do that it must not, by trying it; `does not start` where it doesn't run at all."""
    with tempfile.TemporaryDirectory() as top, socket.create_server(("127.0.0.1", 0)) as server:
        secret, outside = Path(top, "secret"), Path(top, "outside")
        secret.write_text("canary")
        root = Path(top, "trial")
        root.mkdir()
        victim = subprocess.Popen(["sleep", "20"], stdout=subprocess.DEVNULL)
        try:
            port = str(server.getsockname()[1])
            argv = [sys.executable, "-I", "-c", _PROBE, str(secret), str(outside), port, str(victim.pid)]
            ended = run(box, argv, World(root), Limits(wall_seconds=10))
        finally:
            victim.kill()
            victim.wait()
        words = ended.log.decode("utf-8", "replace").strip().split("\n")[-1].split("|")
        if words[0] != "started":
            return [f"does not start: {words[0][:200]}"]
        return words[1:] + (["wrote outside"] if outside.exists() and "wrote outside" not in words else [])


def choose(allow_unsandboxed: bool, cache: Path) -> Sandbox:
    """The strongest rung that holds, by the self-test of its real profile; remembered until the next boot."""
    program = shutil.which("bwrap")
    why = "bubblewrap is not installed"
    if program:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        sealed = "" if seals_namespaces(program) else " (namespaces not sealed)"
        box = Sandbox("bubblewrap", (done.stdout.strip() or "bubblewrap") + sealed, program)
        why = _fault(box, cache)
        if not why:
            return box
    if allow_unsandboxed:
        return Sandbox("none", f"limits only ({why})")
    raise GitResearchError(
        f"no sandbox works here: {why}", "apt install bubblewrap, or pass --allow-unsandboxed to run with limits only"
    )


def _fault(box: Sandbox, cache: Path) -> str:
    """Why a rung does not hold here; empty where it does."""
    try:
        holes = _remembered_probe(box, cache)
    except GitResearchError as error:
        return error.message
    if not holes:
        return ""
    if holes[0].startswith("does not start"):
        return f"{box.description} {holes[0]}"
    return f"inside {box.description} a program {' and '.join(holes)}"


def _remembered_probe(box: Sandbox, cache: Path) -> list[str]:
    """The probe's finding, from the cache where it was made since this boot by this interpreter and program."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    profile = [*box.command([_PROBE], World(Path()), Limits(0)), sys.executable]
    key = [boot, *profile, box.description, os.getuid(), os.stat(box.program).st_mtime_ns]
    memory = cache / "sandbox.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(memory.read_text())
        if boot and known["key"] == key:
            return [str(hole) for hole in known["holes"]]
    holes = probe(box)
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        staged = memory.with_suffix(f".{os.getpid()}")
        staged.write_text(json.dumps({"key": key, "holes": holes}))
        staged.replace(memory)
    return holes
