"""What a rung is worth, found out by a program inside its real profile: what it can do and must not, and what a recipe
needs and must be able to. A finding is remembered until the machine starts again, for the same profile and interpreter.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gitresearch.sandbox.levels import Sandbox
from gitresearch.sandbox.process import run
from gitresearch.sandbox.world import Limits, World

# Runs inside: prints what it could reach. Every word but `started` is a hole.
_PROBE = """
import os, socket, sys
secret, outside, tcp, udp, pid, name, path = sys.argv[1:]
found = ["started"]
def attempt(word, act):
    try:
        act()
        if word and word not in found: found.append(word)
    except OSError:
        pass
def say(family, kind, address):
    with socket.socket(family, kind) as s:
        s.settimeout(0.5)
        s.connect(address)
        s.send(b"x")
attempt("read a secret", lambda: open(secret).read())
attempt("changed a mode outside", lambda: os.chmod(secret, 0o640))
attempt("wrote outside", lambda: open(outside, "w").write("x"))
attempt("", lambda: say(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", int(tcp))))
attempt("", lambda: say(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", int(udp))))
attempt("reached a socket", lambda: say(socket.AF_UNIX, socket.SOCK_STREAM, path))
if sys.platform == "linux":
    attempt("reached a socket", lambda: say(socket.AF_UNIX, socket.SOCK_STREAM, "\\0" + name))
attempt("reached a process", lambda: os.kill(int(pid), 0))
attempt("read an environment", lambda: open(f"/proc/{pid}/environ", "rb").read())
attempt("wrote the root", lambda: os.rmdir(os.mkdir("/gitresearch-probe") or "/gitresearch-probe"))
attempt("could set the kernel", lambda: open("/proc/sys/kernel/core_pattern", "a").close())
attempt("could set the kernel's files", lambda: os.chmod("/proc/uptime", 0o444))
print("|".join(found))
"""
# Runs inside: what recipes stand on, each by itself. A line of JSON, since torch talks too.
_WORKS = """
import json, sys
done = {}
def part(word, act):
    try:
        done[word] = act() or ""
    except BaseException as error:
        done[word] = f"{type(error).__name__}: {error}"[:300]
class Rows:
    def __len__(self): return 16
    def __getitem__(self, i): return torch.full((8,), float(i))
def train():
    net = torch.nn.Linear(8, 1)
    net(torch.ones(4, 8)).sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
def load():
    from torch.utils.data import DataLoader
    total = sum(float(batch.sum()) for batch in DataLoader(Rows(), 4, num_workers=2))
    return "" if total == 8 * sum(range(16)) else f"sum {total}"
def compiled():
    f = torch.compile(lambda x: (x * 2 + 1).relu().sum())
    return "" if float(f(torch.ones(64))) == 192.0 else "a wrong sum"
def reached():
    # The driver's library counts devices that CUDA can't begin on; so each does a sum.
    each = (torch.ones(8, device=f"cuda:{i}").sum() for i in range(torch.cuda.device_count()))
    return sum(float(one) == 8.0 for one in each)
if __name__ == "__main__":
    import torch
    part("torch", train)
    part("DataLoader", load)
    part("torch.compile", compiled)
    try:
        done["accelerators"] = reached()
    except Exception as error:
        done["accelerators"] = f"{type(error).__name__}: {error}".split("\\n")[0][:200]
    print("\\nWORKS" + json.dumps(done))
"""
_COUNT = "import torch; print(torch.cuda.device_count())"


def probe(box: Sandbox) -> list[str]:
    """What a program inside could do that it must not, by trying it; `does not start` where it doesn't run at all."""
    with tempfile.TemporaryDirectory() as top, socket.create_server(("127.0.0.1", 0)) as tcp:
        secret, outside, root, path = (Path(top, name) for name in ("secret", "outside", "trial", "socket"))
        secret.write_text("canary")
        root.mkdir()
        name = f"gitresearch-probe-{os.getpid()}-{threading.get_ident()}"
        waits = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(20)"]
        victim = subprocess.Popen(waits, stdout=subprocess.DEVNULL)
        with (
            socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_UNIX) as named,
            socket.socket(socket.AF_UNIX) as abstract,
        ):  # fmt: skip
            udp.bind(("127.0.0.1", 0))
            named.bind(str(path))
            named.listen()
            if sys.platform == "linux":
                abstract.bind(f"\0{name}")
                abstract.listen()
            told = [secret, outside, tcp.getsockname()[1], udp.getsockname()[1], victim.pid, name, path]
            try:
                argv = [sys.executable, "-I", "-c", _PROBE, *map(str, told)]
                ended = run(box, argv, World(root), Limits(wall_seconds=10))
                heard = _hears(tcp) or _hears(udp)
            finally:
                victim.kill()
                victim.wait()
        words = ended.log.decode("utf-8", "replace").strip().split("\n")[-1].split("|")
        if words[0] != "started":
            return [f"does not start: {words[0][:200]}"]
        # It can't say this itself: sending into the void of a loopback of its own succeeds too.
        network = ["reached the network"] if heard else []
        return words[1:] + network + (["wrote outside"] if outside.exists() and "wrote outside" not in words else [])


def _hears(server: socket.socket) -> bool:
    """Whether something arrived at a socket of ours."""
    server.setblocking(False)
    try:
        if server.type == socket.SOCK_DGRAM:
            return bool(server.recv(1))
        server.accept()[0].close()
        return True
    except OSError:
        return False


def works(box: Sandbox, python: str) -> dict[str, str]:
    """What a recipe of torch needs, tried inside: by name, empty where it works, else why not; `torch: skipped` where
    the interpreter has none. Takes many seconds."""
    outside = subprocess.run([python, "-I", "-c", _COUNT], capture_output=True, text=True, check=False)
    if outside.returncode:
        return {"torch": "skipped: the interpreter has none"}
    with tempfile.TemporaryDirectory() as top:
        (Path(top) / "works.py").write_text(_WORKS)
        limits = Limits(wall_seconds=240, memory_bytes=64 << 30, disk_bytes=4 << 30)
        ended = run(box, [python, "-I", "works.py"], World(Path(top), python=python), limits)
    log = ended.log.decode("utf-8", "replace")
    told = log.rpartition("\nWORKS")[2].strip() if "\nWORKS" in log else ""
    if not told:
        last = log.strip().split("\n")[-1][:300] or f"ended with status {ended.exit_code} {ended.stopped_by}"
        return {"torch": last}
    found = {str(word): str(why) for word, why in json.loads(told).items()}
    inside, there = found.pop("accelerators"), outside.stdout.strip()
    if there != "0":  # a recipe would fall back to the CPU without a word
        told = f"{inside} of {there} compute" if inside.isdigit() else inside
        found["accelerators"] = "" if inside == there else told
    return found


def remembered(box: Sandbox, cache: Path, what: str, python: str, make: Callable[[], object]) -> object:
    """A finding of this boot about a rung's profile as it is now, or a new one. `what` names the test and its text."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    profile = box.command([what], World(Path(), python=python), Limits(0))
    stamp = os.stat(box.program).st_mtime_ns if box.program else 0
    key = [boot, *profile, sys.executable, box.description, os.getuid(), stamp]
    memory = cache / f"sandbox-{box.level}-{what.partition(':')[0]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(memory.read_text())
        if boot and known["key"] == key:
            found: object = known["found"]
            return found
    found = make()
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        staged = memory.with_suffix(f".{os.getpid()}")
        staged.write_text(json.dumps({"key": key, "found": found}))
        staged.replace(memory)
    return found


def holes(box: Sandbox, cache: Path) -> list[str]:
    """The probe's finding, remembered."""
    found = remembered(box, cache, f"probe:{_PROBE}", sys.executable, lambda: probe(box))
    return [str(word) for word in found] if isinstance(found, list) else ["said nothing"]


def abilities(box: Sandbox, cache: Path, python: str) -> dict[str, str]:
    """What works inside for an interpreter, remembered."""
    found = remembered(box, cache, f"works:{_WORKS}", python, lambda: works(box, python))
    return {str(word): str(why) for word, why in found.items()} if isinstance(found, dict) else {}
