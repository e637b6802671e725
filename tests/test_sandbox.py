"""The sandbox under attack: each test runs a small hostile program and holds what it could not do."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gitresearch import sandbox
from gitresearch.errors import GitResearchError
from gitresearch.sandbox import (
    Channel,
    Ended,
    Gate,
    Limits,
    Process,
    Sandbox,
    World,
    ladder,
    launcher,
    levels,
    process,
    seatbelt,
    selftest,
    world,
)
from gitresearch.sandbox.taskclock import TaskClock
from gitresearch.workdir import remove
from tests.processes import gone

BWRAP = shutil.which("bwrap")
LEVELS = ["bubblewrap", "landlock", "none"]
SLOW = [pytest.param(level, marks=pytest.mark.slow) for level in ("landlock", "none")]


def make_box(level: str) -> Sandbox:
    if level == "none":
        return Sandbox("none", "limits only")
    if level == "landlock":
        abi = launcher.landlock_abi()
        if abi < 1:
            pytest.skip("this kernel has no Landlock")
        return Sandbox("landlock", "landlock", ladder.LAUNCHER, abi)
    if BWRAP is None:
        pytest.skip("bubblewrap is not installed")
    return Sandbox("bubblewrap", "bubblewrap", BWRAP)


@pytest.fixture
def box() -> Sandbox:
    """The real bubblewrap profile."""
    return make_box("bubblewrap")


WITH_ACCELERATORS = [pytest.param(f"{level} with accelerators", marks=pytest.mark.slow) for level in LEVELS[:2]]


@pytest.fixture(params=[*LEVELS[:2], *WITH_ACCELERATORS])
def wall(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The real profiles that are walls, and as they are where there are accelerators."""
    level, _, nodes = request.param.partition(" with ")
    if nodes:
        monkeypatch.setattr(levels, "accelerator_nodes", lambda: [os.devnull])
    return make_box(level)


@pytest.fixture(params=LEVELS)
def any_box(request: pytest.FixtureRequest) -> Sandbox:
    """All levels: limits hold without a sandbox too."""
    return make_box(request.param)


@pytest.fixture(params=["bubblewrap", *SLOW])
def each_box(request: pytest.FixtureRequest) -> Sandbox:
    """All levels, for tests that take half a second: all but one among the slow tests."""
    return make_box(request.param)


@pytest.fixture
def no_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel before 5.13."""
    monkeypatch.setattr(launcher, "landlock_abi", lambda: 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "trial").mkdir()
    return tmp_path / "trial"


def world_of(root: Path, code: str) -> World:
    (root / "program.py").write_text(code)
    return World(root)


def run(
    box: Sandbox, root: Path, code: str, *args: object, cancel: threading.Event | None = None, **limits: float
) -> Ended:
    """What came of running the code in the box."""
    told = Limits(**({"wall_seconds": 20.0} | limits))  # type: ignore[arg-type]
    argv = [sys.executable, "-I", "program.py", *map(str, args)]
    return sandbox.run(box, argv, world_of(root, code), told, cancel)


def clock_counts() -> bool:
    clock = TaskClock()
    subprocess.run(["true"], check=True)
    found = clock.seconds > 0
    clock.close()
    return found


def said(ended: Ended) -> str:
    return ended.log.decode().strip()


TRY = """
import os, sys, socket, signal
def attempt(act):
    try:
        print("DONE", act())
    except OSError as error:
        print("REFUSED", error.strerror or error)
"""


def refused(ended: Ended) -> None:
    assert "DONE" not in said(ended)
    assert said(ended).startswith("REFUSED")


# Files


def test_it_cannot_write_outside(wall: Sandbox, root: Path, tmp_path: Path) -> None:
    """A file beside the trial's folder, by absolute path and by `..`, stays as it was."""
    victim = tmp_path / "evaluator.py"
    victim.write_text("judge")

    ended = run(wall, root, TRY + "for p in sys.argv[1:]: attempt(lambda: open(p, 'r+').write('x'))", victim,
                "../evaluator.py")  # fmt: skip

    refused(ended)
    assert victim.read_text() == "judge"


def test_it_cannot_change_the_interpreter(wall: Sandbox, root: Path) -> None:
    """The interpreter's folders are there to read, not to write: the next run uses them."""
    target = Path(os.__file__).parent / "planted_by_a_trial.py"

    refused(run(wall, root, TRY + "attempt(lambda: open(sys.argv[1], 'w'))", target))
    assert not target.exists()


def test_an_interpreter_below_tmp_is_there(box: Sandbox, root: Path, tmp_path: Path) -> None:
    """An environment in a clone below /tmp is shown there, though /tmp inside is empty and the program's own."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    (root / "program.py").write_text("import os, sys; print(sys.prefix, os.listdir('/tmp'))")
    ended = sandbox.run(box, [str(python), "-I", "program.py"], World(root, python=str(python)), Limits(20))
    top = tmp_path.relative_to("/tmp").parts[0] if tmp_path.is_relative_to("/tmp") else ""
    assert said(ended) == f"{tmp_path / 'venv'} {[top] if top else []}"


def test_it_writes_only_where_it_is_counted(box: Sandbox, root: Path) -> None:
    """Folders that the sandbox makes itself have no size, so nothing can be written there."""
    code = TRY + "for p in ('/x', '/dev/x', '/etc/x', '/usr/x', '/sys/x', '/proc/x'): attempt(lambda: os.mkdir(p))"

    refused(run(box, root, code))


def test_it_cannot_change_the_kernels_settings(wall: Sandbox, root: Path) -> None:
    """A root user's trial is root to /proc/sys, and core_pattern names a program that the host runs as root."""
    code = "for p in sys.argv[1:]: attempt(lambda: open(p, 'a').close())"
    paths = ["kernel/core_pattern", "kernel/hostname", "vm/swappiness", "user/max_user_namespaces"]

    refused(run(wall, root, TRY + code, *[f"/proc/sys/{path}" for path in paths]))


NAMES_A_THREAD = """
import ctypes, os, sys, threading
libc, wake = ctypes.CDLL(None), threading.Event()
thread = threading.Thread(target=wake.wait)
thread.start()
libc.pthread_setname_np.argtypes = ctypes.c_ulong, ctypes.c_char_p
print(libc.pthread_setname_np(thread.ident, b"cuda-1"), open(f"/proc/self/task/{thread.native_id}/comm").read().strip())
for process in ("self", os.getpid()):
    open(f"/proc/{process}/task/{thread.native_id}/comm", "w").write(f"of {process}"[:15])
wake.set()
for path in sys.argv[1:]:
    try:
        with open(path, "w") as file:
            file.write("x")
        print("wrote", path)
    except OSError:
        pass
"""


@pytest.mark.parametrize("level", LEVELS[:2])
def test_threads_have_names_where_there_are_accelerators(
    level: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA's first call names its threads through /proc. Another process's names, and what else /proc would let a user
    write of it, stay out of reach."""
    monkeypatch.setattr(levels, "accelerator_nodes", lambda: [os.devnull])
    ours = f"/proc/{os.getpid()}"
    paths = [f"{ours}/task/{os.getpid()}/comm", f"{ours}/comm", f"{ours}/oom_score_adj", "/proc/sysrq-trigger"]

    ended = run(make_box(level), root, NAMES_A_THREAD, *paths)

    assert said(ended) == "0 cuda-1"


def test_it_cannot_change_a_mode_in_proc(wall: Sandbox, root: Path) -> None:
    """A root user's trial owns what lies there, and a mode set in it is set for the whole machine until it restarts."""
    paths = ["/proc/uptime", "/proc/meminfo", "/proc/kmsg", "/proc/sys/kernel/hostname"]
    code = TRY + "for p in sys.argv[1:]: attempt(lambda: os.chmod(p, os.stat(p).st_mode & 0o777))"

    refused(run(wall, root, code, *[path for path in paths if os.path.exists(path)]))


def test_it_has_a_users_name(wall: Sandbox, root: Path) -> None:
    """Libraries that name a cache after the user find one, with no file of users to look in."""
    assert said(run(wall, root, "import getpass; print(getpass.getuser())")) == "trial"


def test_it_cannot_read_a_secret(wall: Sandbox, root: Path, tmp_path: Path) -> None:
    """A file in another folder and one in the user's home can't be read."""
    secret, key = tmp_path / "held_out.txt", Path.home() / "key"
    for path in (secret, key):
        path.write_text("canary-7391")

    ended = run(wall, root, TRY + "for p in sys.argv[1:]: attempt(lambda: open(p).read())", secret, key)

    refused(ended)
    assert "canary" not in said(ended)


def test_a_link_out_of_the_trial_leads_nowhere(wall: Sandbox, root: Path, tmp_path: Path) -> None:
    """A symbolic link that the program makes is resolved inside."""
    (tmp_path / "secret").write_text("canary")
    code = TRY + "os.symlink(sys.argv[1], 'link'); attempt(lambda: open('link').read())"

    refused(run(wall, root, code, tmp_path / "secret"))


def test_mounted_data_is_read_only(box: Sandbox, root: Path, tmp_path: Path) -> None:
    """What is mounted to read can be read and not written, through its mode or otherwise."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "tokens").write_text("abc")
    world = World(root, {"/data": data})
    (root / "program.py").write_text(
        TRY + "print(open('/data/tokens').read())\n"
        "for act in (lambda: open('/data/tokens', 'a'), lambda: os.chmod('/data/tokens', 0o777),\n"
        "            lambda: os.unlink('/data/tokens')):\n    attempt(act)"
    )
    lines = said(sandbox.run(box, [sys.executable, "program.py"], world, Limits(20))).split("\n")

    assert lines[0] == "abc"
    assert [line.split()[0] for line in lines[1:]] == ["REFUSED"] * 3
    assert (data / "tokens").read_text() == "abc"


def test_what_it_writes_in_the_trial_is_there(any_box: Sandbox, root: Path) -> None:
    """The positive side: its own folder is writable, and so is its temporary folder."""
    code = "import os, tempfile; open('out', 'w').write('x'); tempfile.TemporaryFile().write(b'x'); print('fine')"

    assert said(run(any_box, root, code)) == "fine"
    assert (root / "out").read_text() == "x"


# Processes, keys, network


def test_it_cannot_read_our_environment(box: Sandbox, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment to be found under /proc holds a key of ours, and our process is not there at all."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    code = """
import glob, os, sys
for path in [*glob.glob("/proc/[0-9]*/environ"), f"/proc/{sys.argv[1]}/environ"]:
    try:
        print("canary" if b"canary" in open(path, "rb").read() else "clean")
    except OSError:
        print("refused")
"""
    words = said(run(box, root, code, os.getpid())).split()

    assert words[-1] == "refused"
    assert "canary" not in words


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_inherited(level: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment holds what we put there, whatever ours holds."""
    for name in ("OPENAI_API_KEY", "LD_PRELOAD_X", "PYTHONPATH", "GIT_DIR", "http_proxy"):
        monkeypatch.setenv(name, "canary")

    ended = run(make_box(level), root, "import os; print(*os.environ.items(), sep='\\n')")

    assert "canary" not in said(ended)
    names = set(re.findall(r"^\('(\w+)'", said(ended), re.MULTILINE))
    assert names <= {"PATH", "HOME", "TMPDIR", "LANG", "PYTHONNOUSERSITE", "PYTHONDONTWRITEBYTECODE", "LC_CTYPE",
                     "PYTHONUNBUFFERED", "TORCHINDUCTOR_CACHE_DIR", "USER", "LOGNAME", "PWD", "SHLVL", "_"}  # fmt: skip


def test_it_cannot_connect_to_a_listener(wall: Sandbox, root: Path) -> None:
    """Neither a TCP listener on loopback nor an abstract socket of the host is within reach."""
    name = f"\0gitresearch-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(name)
        abstract.listen()
        code = TRY + (
            "attempt(lambda: socket.create_connection(('127.0.0.1', int(sys.argv[1])), 2))\n"
            "attempt(lambda: socket.socket(socket.AF_UNIX).connect('\\0' + sys.argv[2]))"
        )
        ended = run(wall, root, code, tcp.getsockname()[1], name[1:])

    refused(ended)
    assert said(ended).count("REFUSED") == 2


def test_it_sees_and_reaches_no_process_of_the_host(box: Sandbox, root: Path) -> None:
    """The program sees only itself and its init; a signal to a process of the host finds nobody."""
    victim = subprocess.Popen(["sleep", "30"])
    try:
        code = TRY + (
            "print(len([p for p in os.listdir('/proc') if p.isdigit()]))\n"
            "attempt(lambda: os.kill(int(sys.argv[1]), signal.SIGKILL))"
        )
        ended = run(box, root, code, victim.pid)
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()
    count, tried = said(ended).split("\n")
    assert int(count) <= 2
    assert tried.startswith("REFUSED")


def test_it_makes_no_user_namespace(wall: Sandbox, root: Path) -> None:
    """A namespace of its own would give it capabilities to attack the kernel with."""
    code = TRY + (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "def unshare():\n    if libc.unshare(0x10000000): raise OSError(ctypes.get_errno(), 'no')\n"
        "attempt(unshare)"
    )
    refused(run(wall, root, code))


DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/bin/sleep", ["sleep", sys.argv[1]])
    os._exit(0)
time.sleep({rest})
"""


def test_a_daemon_does_not_outlive_it(wall: Sandbox, root: Path) -> None:
    """A double-forked process in a session of its own is gone when the run is, or soon after."""
    word = f"987.{os.getpid()}"

    ended = run(wall, root, DAEMON.format(rest=0), word)

    assert ended.exit_code == 0
    assert gone(word)


def test_without_a_sandbox_a_daemon_that_was_seen_is_ended(root: Path) -> None:
    """At level none a daemon that lived long enough to be seen among the children is ended, and holds nothing up."""
    word = f"986.{os.getpid()}"
    code = DAEMON.format(rest=0).replace("os._exit(0)", "time.sleep(0.4); os._exit(0)") + "time.sleep(0.2)"

    ended = run(make_box("none"), root, code, word)

    assert ended.exit_code == 0
    assert gone(word)


def test_a_cancelled_tree_is_gone(each_box: Sandbox, root: Path) -> None:
    """Setting the event ends the whole tree at once, in its own sessions too."""
    word = f"985.{os.getpid()}"
    cancel = threading.Event()
    timer = threading.Timer(0.5, cancel.set)
    timer.start()
    code = (
        "import subprocess, sys, time\nsubprocess.Popen(['sleep', sys.argv[1]], start_new_session=True)\ntime.sleep(60)"
    )
    ended = run(each_box, root, code, word, cancel=cancel)
    timer.join()

    assert (ended.stopped_by, ended.signal_name) == ("cancelled", "SIGKILL")
    assert ended.wall_seconds < 5
    assert gone(word)


def test_an_error_while_waiting_leaves_nothing_running(each_box: Sandbox, root: Path) -> None:
    """Where whoever watches raises, the program is ended before the error goes on."""
    word = f"984.{os.getpid()}"

    def raises(_used: float) -> None:
        raise RuntimeError("the display broke")

    with pytest.raises(RuntimeError):
        sandbox.run(each_box, ["sleep", word], World(root), Limits(20), on_tick=raises)
    assert gone(word)


# Limits and clocks


@pytest.mark.parametrize("level", LEVELS)
def test_the_kernels_limits_hold_from_the_start(level: str, root: Path) -> None:
    """Size of a file, core dumps and open files are bounded before the program begins, however soon it forks."""
    code = "import resource as r; print(*(r.getrlimit(n)[1] for n in (r.RLIMIT_FSIZE, r.RLIMIT_CORE, r.RLIMIT_NOFILE)))"

    size, core, files = map(int, said(run(make_box(level), root, code, disk_bytes=1 << 20)).split())

    assert (size, core) == (1 << 20, 0)
    assert 0 < files <= Limits(1).open_files


BURN = "def burn():\n    while True: pass\n"


@pytest.mark.slow
def test_cpu_counts_threads(each_box: Sandbox, root: Path) -> None:
    """Four threads that compute in the kernel's sight spend CPU seconds together."""
    code = (
        "import hashlib, threading\ndata = bytes(1 << 24)\n"
        "def burn():\n    while True: hashlib.sha256(data)\n"
        "for _ in range(4): threading.Thread(target=burn).start()"
    )
    ended = run(each_box, root, code, cpu_seconds=0.6)

    assert ended.stopped_by == "cpu"
    assert 0.6 <= ended.cpu_seconds < 1.5


def test_cpu_counts_children(each_box: Sandbox, root: Path) -> None:
    """Work handed to children counts while they run and after they were waited for."""
    code = (
        "import subprocess, sys\n"
        "while True: subprocess.run([sys.executable, '-I', '-S', '-c', 'for i in range(3_000_000): pass'])"
    )
    ended = run(each_box, root, code, cpu_seconds=0.6)

    assert ended.stopped_by == "cpu"
    assert ended.cpu_seconds < 2


@pytest.mark.slow
def test_cpu_counts_children_nobody_waits_for(each_box: Sandbox, root: Path) -> None:
    """A parent that ignores SIGCHLD makes the kernel forget its children's CPU seconds; we remember them."""
    code = (
        "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "while True:\n    if os.fork() == 0:\n        while time.process_time() < 0.3: pass\n        os._exit(0)\n"
        "    try: os.wait()\n    except ChildProcessError: pass"
    )
    ended = run(each_box, root, code, cpu_seconds=0.8, wall_seconds=8)

    assert ended.stopped_by == "cpu"


@pytest.mark.slow
def test_cpu_counts_children_that_leave_no_account(each_box: Sandbox, root: Path) -> None:
    """A parent that ignores SIGCHLD gets no account of its children, and each is gone between two looks."""
    if not clock_counts():
        pytest.skip("perf_event_paranoid allows no clock here")
    code = """
import ctypes, os, signal, time
ctypes.CDLL(None).prctl(31, 0, 0, 0, 0)  # stop counting me
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(40):
    read, write = os.pipe()
    if os.fork() == 0:
        while time.process_time() < 0.01: pass
        os._exit(0)
    os.close(write)
    os.read(read, 1)
    os.close(read)
"""
    ended = run(each_box, root, code)
    assert said(ended) == ""
    assert ended.cpu_seconds >= 0.4


@pytest.mark.slow
def test_what_is_used_before_a_gate_pays_for_nothing_after_it(wall: Sandbox, root: Path) -> None:
    """Time of children without an account counts before, and time of children too short to be seen counts after."""
    code = """
import os, signal, time
def spin(seconds):
    while time.process_time() < seconds: pass
    os._exit(0)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork() == 0: spin(0.5)
try: os.wait()
except OSError: pass
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
time.sleep(0.2)
ready = int(os.environ["READY"])
os.write(ready, b"1")
os.read(ready, 1)
for _ in range(40):
    if os.fork() == 0: spin(0.01)
    os.wait()
"""
    with Gate(20.0, 20.0, lambda: None).held() as gate:
        world = replace(world_of(root, code), gate=gate, env={"READY": str(gate.handle)})
        ended = sandbox.run(wall, [sys.executable, "-I", "program.py"], world, Limits(20.0, 20.0))
    assert said(ended) == ""
    assert ended.cpu_seconds >= 0.4 or not clock_counts()


def test_a_sleeper_meets_the_wall_limit(each_box: Sandbox, root: Path) -> None:
    """A program that waits spends no CPU seconds; the wall clock ends it."""
    ended = run(each_box, root, "import time; time.sleep(60)", cpu_seconds=5, wall_seconds=0.4)

    assert ended.stopped_by == "wall"
    assert 0.4 <= ended.wall_seconds < 3
    assert ended.cpu_seconds < 2


def test_ignoring_signals_does_not_help(each_box: Sandbox, root: Path) -> None:
    """A program that ignores every signal it can is ended all the same."""
    code = (
        "import signal, time\n"
        "for s in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(s, signal.SIG_IGN)\n"
        "while True: time.sleep(60)"
    )
    assert run(each_box, root, code, wall_seconds=0.5).stopped_by == "wall"


def test_memory_is_limited(each_box: Sandbox, root: Path) -> None:
    """A program that takes more memory than its limit is ended, and the outcome names how much it had."""
    code = "import time\nkept = []\nwhile True:\n    kept.append(bytearray(b'x') * (8 << 20))\n    time.sleep(0.005)"
    ended = run(each_box, root, code, memory_bytes=150 << 20)

    assert ended.stopped_by == "memory"
    assert 150 << 20 < ended.peak_memory_bytes < 1 << 30


def test_memory_of_children_counts_together(each_box: Sandbox, root: Path) -> None:
    """Four processes that share the memory among them pass the limit together."""
    code = "import os, time\nfor _ in range(3): os.fork()\nkept = bytearray(b'x') * (40 << 20)\ntime.sleep(30)"

    assert run(each_box, root, code, memory_bytes=200 << 20).stopped_by == "memory"


@pytest.mark.slow
def test_memory_that_forks_share_counts_once(each_box: Sandbox, root: Path) -> None:
    """Workers forked from a large process share its pages: they are not counted again for each of them."""
    code = (
        "import os, time\nkept = bytearray(b'x') * (80 << 20)\n"
        "for _ in range(6):\n    if os.fork() == 0: time.sleep(0.5); os._exit(0)\n"
        "time.sleep(0.6); print('fine')"
    )
    ended = run(each_box, root, code, memory_bytes=300 << 20)

    assert (ended.stopped_by, said(ended)) == ("", "fine")
    assert ended.peak_memory_bytes < 300 << 20


def test_a_log_flood_is_stopped(each_box: Sandbox, root: Path) -> None:
    """Endless output ends the run; head and tail are kept, and what lies between is counted."""
    code = "import sys\nprint('the first line')\nwhile True: sys.stdout.write('x' * 79 + '\\n')"
    ended = run(each_box, root, code, log_bytes=3 << 20)

    assert ended.stopped_by == "log"
    assert 3 << 20 < ended.log_bytes < 4 << 20
    assert len(ended.log) < 400 << 10
    assert ended.log.startswith(b"the first line\n")
    assert b" bytes ...]\n" in ended.log


@pytest.mark.slow
def test_head_and_tail_of_a_long_log(each_box: Sandbox, root: Path) -> None:
    """A log within its limit keeps its first and its last lines, where the reasons of a crash are."""
    code = "print('begin')\nfor i in range(200_000): print('noise', i)\nprint('end')"
    ended = run(each_box, root, code)

    assert (ended.stopped_by, ended.exit_code) == ("", 0)
    assert ended.log.startswith(b"begin\n")
    assert ended.log.endswith(b"\nend\n")
    assert len(ended.log) < 400 << 10 < ended.log_bytes


@pytest.mark.slow
def test_one_large_file_is_stopped(each_box: Sandbox, root: Path) -> None:
    """A file in the trial's folder can't grow past the disk limit for long."""
    code = (
        "import time\nf = open('big', 'wb')\n"
        "while True:\n    f.write(b'x' * (1 << 20)); f.flush(); time.sleep(0.01)"
    )  # fmt: skip
    ended = run(each_box, root, code, disk_bytes=20 << 20)

    assert ended.stopped_by == "disk" or (ended.exit_code and b"File too large" in ended.log)
    assert (root / "big").stat().st_size < 400 << 20


@pytest.mark.slow
def test_many_small_files_are_stopped(each_box: Sandbox, root: Path) -> None:
    """The limit holds for all files of the trial together."""
    code = (
        "import time\nfor i in range(10_000):\n    open(f'f{i}', 'wb').write(b'x' * (1 << 20)); time.sleep(0.01)"
    )  # fmt: skip
    ended = run(each_box, root, code, disk_bytes=20 << 20)

    assert ended.stopped_by == "disk"


@pytest.mark.parametrize(
    ("code", "closed"),
    [
        ("import os\nfor i in range(1200): os.mkdir('d'); os.chdir('d')", False),
        ("for i in range(300): open(f'f{i}', 'w').close()", False),
        ("import os\nos.mkdir('d'); os.chdir('d'); open('f', 'wb').write(bytes(9000)); os.chmod('.', 0)", True),
    ],
    ids=["nested", "empty-files", "closed"],
)
def test_what_cannot_be_walked_is_too_much(each_box: Sandbox, root: Path, code: str, closed: bool) -> None:
    """Folders nested thousands deep, names without content and folders closed to us neither hide files nor break us."""
    if closed and os.getuid() == 0:
        pytest.skip("nothing is closed to root")

    assert run(each_box, root, code, disk_bytes=1_000_000).stopped_by == "disk"
    remove(root)
    assert not root.exists()


def test_a_quick_writer_is_found_at_its_end(each_box: Sandbox, root: Path) -> None:
    """A program that ends before the disk was looked at has not escaped: it is looked at again at the end."""
    code = "for i in range(6): open(f'f{i}', 'wb').write(b'x' * (4 << 20))"

    assert run(each_box, root, code, disk_bytes=10 << 20).stopped_by == "disk"


def test_temporary_folders_are_limited(box: Sandbox, root: Path) -> None:
    """/tmp and /dev/shm are memory of ours: each takes no more than the disk limit."""
    code = TRY + (
        "def fill(path):\n    with open(path, 'wb') as f:\n        for _ in range(64): f.write(bytes(1 << 20))\n"
        "attempt(lambda: fill('/tmp/a')); attempt(lambda: fill('/dev/shm/a'))"
    )
    lines = said(run(box, root, code, disk_bytes=16 << 20)).split("\n")

    assert len(lines) == 2
    assert all(line.startswith("REFUSED") for line in lines)


def test_processes_are_limited(each_box: Sandbox, root: Path) -> None:
    """A fork bomb is ended once it passes its number of processes, and nothing of it is left."""
    word = f"983.{os.getpid()}"
    code = "import subprocess, sys, time\nwhile True: subprocess.Popen(['sleep', sys.argv[1]]); time.sleep(0.001)"

    assert run(each_box, root, code, word, processes=40).stopped_by == "processes"
    assert gone(word, 3)


@pytest.mark.slow
def test_its_own_clock_is_its_own_affair(each_box: Sandbox, root: Path) -> None:
    """A program that patches the time module, so that it has spent nothing, has spent it by our clock."""
    code = (
        "import time\nreal, time.time, time.monotonic, time.perf_counter = time.sleep, *[lambda: 0.0] * 3\n"
        "real(0.5); time.sleep = lambda s: None; print(time.time())"
    )
    ended = run(each_box, root, code)

    assert said(ended) == "0.0"
    assert 0.5 <= ended.wall_seconds < 3


@pytest.mark.slow
def test_ticks_tell_the_clock_that_counts(each_box: Sandbox, root: Path) -> None:
    """Whoever watches is told seconds used, and they never fall."""
    ticks: list[float] = []
    argv = [sys.executable, "-I", "-c", "import time\nwhile time.process_time() < 0.8: pass"]

    sandbox.run(each_box, argv, World(root), Limits(20, cpu_seconds=10), on_tick=ticks.append)

    assert ticks
    assert ticks == sorted(ticks)


# Ends


@pytest.mark.parametrize(
    ("code", "exit_code", "name"),
    [
        ("raise SystemExit(0)", 0, ""),
        ("raise SystemExit(7)", 7, ""),
        ("raise ValueError('x')", 1, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", None, "SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", None, "SIGKILL"),
        ("import os; os.abort()", None, "SIGABRT"),
    ],
)
def test_the_end_is_named(any_box: Sandbox, root: Path, code: str, exit_code: int | None, name: str) -> None:
    """Exit codes come through, signals by their names, at both levels."""
    ended = run(any_box, root, code)

    assert ended.signal_name == name
    assert ended.stopped_by == ""
    if exit_code is not None:
        assert ended.exit_code == exit_code


def test_pipes_reach_the_program(each_box: Sandbox, root: Path) -> None:
    """A process given descriptors for stdin and stdout speaks through them; its stderr is still the log."""
    their_in, to_program = os.pipe()
    from_program, their_out = os.pipe()
    world = world_of(root, "import sys; print(sys.stdin.read().upper()); print('log', file=sys.stderr)")
    process = Process(each_box, [sys.executable, "program.py"], world, Limits(20), stdin=their_in, stdout=their_out)
    for handle in (their_in, their_out):
        os.close(handle)
    os.write(to_program, b"hello")
    os.close(to_program)
    ended = process.wait()
    with open(from_program, "rb") as out:
        assert out.read() == b"HELLO\n"
    assert said(ended) == "log"


def test_no_descriptor_is_inherited(each_box: Sandbox, root: Path, tmp_path: Path) -> None:
    """A file that we have open, inheritable even, is not open inside."""
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        ended = run(each_box, root, "import os; print(*sorted(map(int, os.listdir('/proc/self/fd'))))")

    assert len(said(ended).split()) <= 4  # three and the listing itself


@pytest.mark.slow
def test_no_descriptor_leaks(each_box: Sandbox, root: Path) -> None:
    """Twenty runs leave no descriptor and no thread of ours behind."""
    run(each_box, root, "")
    handles, threads = len(os.listdir("/proc/self/fd")), threading.active_count()

    for _ in range(20):
        sandbox.run(each_box, ["true"], World(root), Limits(20))

    assert len(os.listdir("/proc/self/fd")) == handles
    assert threading.active_count() == threads


def test_a_program_that_is_not_there(each_box: Sandbox, root: Path) -> None:
    """A command that can't be started ends with a message that names it, not with a traceback of ours."""
    try:
        ended = sandbox.run(each_box, ["no-such-program-7"], World(root), Limits(20))
        told = said(ended) if ended.exit_code else ""
    except GitResearchError as error:
        told = error.message
    assert "no-such-program-7" in told


def test_a_world_that_cannot_be_made(box: Sandbox, root: Path, tmp_path: Path) -> None:
    """A folder of ours that is gone is no fault of the program: it never began, and no exit of its own says so."""
    missing = World(root, read_only={"/data": tmp_path / "missing"})

    assert not sandbox.run(box, ["true"], missing, Limits(20)).began
    assert run(box, root, "raise SystemExit(1)").began
    assert run(box, root, "print('bwrap: no such thing'); raise SystemExit(1)").began
    assert sandbox.run(box, ["no-such-program-7"], World(root), Limits(20)).began


def test_our_own_memory_is_not_counted(each_box: Sandbox, root: Path) -> None:
    """A process begins with the peak of the one that started it; what we use is not told as the program's."""
    ours = bytearray(b"x" * (100 << 20))

    ended = sandbox.run(each_box, ["true"], World(root), Limits(20))

    assert ended.peak_memory_bytes < len(ours) // 2


KILLED = """
import sys
from pathlib import Path
from gitresearch import sandbox
box = sandbox.Sandbox(sys.argv[1], "", sys.argv[2])
sandbox.run(box, ["sleep", sys.argv[3]], sandbox.World(Path(sys.argv[4])), sandbox.Limits(60))
"""


def test_it_ends_with_us(each_box: Sandbox, root: Path) -> None:
    """Where we are killed with -9, the program is gone too."""
    if each_box.level == "none" and not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed")
    word = f"982.{os.getpid()}"
    ours = subprocess.Popen([sys.executable, "-c", KILLED, each_box.level, each_box.program, word, str(root)])
    while gone(word, 0.01):
        time.sleep(0.02)
    ours.send_signal(signal.SIGKILL)
    ours.wait()

    assert gone(word, 3)


# Choice and probe


def test_the_real_profile_has_no_hole(wall: Sandbox) -> None:
    """The self-test of the profile we run finds nothing."""
    assert sandbox.probe(wall) == []


class Weak(Sandbox):
    """A sandbox that shows and shares everything."""

    def command(self, argv: object, world: World, limits: Limits) -> list[str]:
        return [self.program, "--bind", "/", "/", "--dev", "/dev", "--chdir", str(world.root), *argv]  # type: ignore[misc]


def test_the_probe_can_fail(box: Sandbox) -> None:
    """A profile that binds the whole root and shares the network and processes is found out in every point."""
    holes = sandbox.probe(Weak("bubblewrap", "weak", box.program))

    walls = {"read a secret", "changed a mode outside", "wrote outside", "reached the network", "reached a socket",
             "reached a process", "read an environment"}  # fmt: skip
    as_root = {"wrote the root", "could set the kernel", "could set the kernel's files"}  # no hole of a user's
    assert set(holes) == (walls | as_root if os.getuid() == 0 else walls)


def test_the_probe_of_no_sandbox_finds_everything() -> None:
    """Level none is what the probe calls full of holes."""
    assert len(sandbox.probe(Sandbox("none", ""))) == (10 if os.getuid() == 0 else 7)


def fake_bwrap(folder: Path, script: str) -> Path:
    folder.mkdir()
    (folder / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bwrap").chmod(0o755)
    return folder


@pytest.mark.usefixtures("no_landlock")
def test_a_sandbox_that_does_not_start_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bwrap that the system refuses to let work is named with what it said."""
    folder = fake_bwrap(tmp_path / "bin", 'echo "bwrap: setting up uid map: Permission denied" >&2; exit 1')
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    with pytest.raises(GitResearchError, match="uid map: Permission denied"):
        sandbox.choose(False, tmp_path / "cache")


@pytest.mark.usefixtures("no_landlock")
def test_a_leaking_sandbox_is_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bwrap that runs the program without walls is found out, and what the program could do is said."""
    script = 'if [ "$1" = --version ]; then echo bubblewrap 9; exit; fi\n'
    script += 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"'
    monkeypatch.setenv("PATH", f"{fake_bwrap(tmp_path / 'bin', script)}:/usr/bin:/bin")

    with pytest.raises(
        GitResearchError, match=r"inside bubblewrap 9 .* a program read a secret and changed a mode outside and wrote"
    ) as caught:
        sandbox.choose(False, tmp_path / "cache")
    assert "--allow-unsandboxed" in caught.value.hint


def test_landlock_is_the_next_rung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bubblewrap trials run behind Landlock, by the probe of that very profile."""
    make_box("landlock")
    monkeypatch.setenv("PATH", str(tmp_path))

    box = sandbox.choose(False, tmp_path / "cache")

    assert (box.level, box.abi) == ("landlock", launcher.landlock_abi())
    assert "Landlock ABI" in box.description
    assert (tmp_path / "cache" / "sandbox-landlock-probe.json").exists()


@pytest.mark.usefixtures("no_landlock")
def test_why_ubuntu_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where AppArmor takes user namespaces away, the hint says which setting does."""
    folder = fake_bwrap(tmp_path / "bin", 'echo "bwrap: setting up uid map: Permission denied" >&2; exit 1')
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(ladder, "_is_restricted", lambda: True)

    with pytest.raises(GitResearchError) as caught:
        sandbox.choose(False, tmp_path / "cache")
    assert "kernel.apparmor_restrict_unprivileged_userns=0" in caught.value.hint


@pytest.mark.usefixtures("no_landlock")
def test_without_bubblewrap_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what is missing and both ways out of it."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(GitResearchError) as caught:
        sandbox.choose(False, tmp_path / "cache")

    assert caught.value.message == "no sandbox works here: bubblewrap is not installed; this kernel has no Landlock"
    assert "bubblewrap" in caught.value.hint
    assert "--allow-unsandboxed" in caught.value.hint


@pytest.mark.usefixtures("no_landlock")
def test_limits_only_has_to_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the person's word the level is none, and the description says why."""
    monkeypatch.setenv("PATH", str(tmp_path))

    box = sandbox.choose(True, tmp_path / "cache")

    why = "bubblewrap is not installed; this kernel has no Landlock"
    assert (box.level, box.description) == ("none", f"limits only ({why})")


def test_the_probe_is_remembered_for_the_same_program(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finding is used again until the next boot, never for another program or probe; a broken memory is made anew."""
    calls: list[str] = []
    monkeypatch.setattr(selftest, "probe", lambda box: calls.append(box.program) or [])

    for _ in range(2):
        sandbox.choose(False, tmp_path)
    assert len(calls) == 1
    (tmp_path / "sandbox-bubblewrap-probe.json").write_text("{")
    sandbox.choose(False, tmp_path)
    assert len(calls) == 2
    monkeypatch.setattr(selftest, "_PROBE", "print('started')")
    sandbox.choose(False, tmp_path)
    assert len(calls) == 3
    other = fake_bwrap(tmp_path / "bin", "echo bubblewrap 9")
    monkeypatch.setenv("PATH", f"{other}:/usr/bin:/bin")
    sandbox.choose(False, tmp_path)
    assert calls[-1] == str(other / "bwrap")


def test_an_interpreter_that_does_not_start(tmp_path: Path, box: Sandbox) -> None:
    """A broken interpreter is named, with where to mend it."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)

    for one in (box, Sandbox("landlock", "", ladder.LAUNCHER, 1)):
        with pytest.raises(GitResearchError, match=re.escape(str(broken))):
            sandbox.run(one, ["true"], World(tmp_path, python=str(broken)), Limits(5))


@pytest.mark.parametrize("place", ["home", "repository"])
def test_an_interpreter_among_secrets(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A virtual environment that is the home or the repository itself would show all of it: refused, and said."""
    folder = tmp_path / place
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    if place == "home":
        monkeypatch.setenv("HOME", str(folder / "me"))
    else:
        (folder / ".git").mkdir()

    with pytest.raises(GitResearchError, match=f"trials would see .*{place}"):
        sandbox.run(box, ["true"], World(tmp_path, python=str(folder / "bin" / "python")), Limits(5))


def test_an_interpreter_among_secrets_is_no_rung(box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the probe's interpreter can't be shown, that is the reason, and limits only can still be asked for."""
    monkeypatch.setattr(levels, "interpreter_folders", lambda _python: world._shown({str(Path.home())}, "python"))

    with pytest.raises(GitResearchError, match="no sandbox works here: trials would see your home"):
        sandbox.choose(False, tmp_path)
    assert sandbox.choose(True, tmp_path).level == "none"


def test_an_older_bubblewrap(tmp_path: Path) -> None:
    """One that can't seal user namespaces is not asked to."""
    old = Sandbox("bubblewrap", "", str(fake_bwrap(tmp_path / "bin", "echo --unshare-user") / "bwrap"))

    assert "--disable-userns" not in old.command(["true"], World(tmp_path), Limits(5))


def test_the_home_is_never_shown(box: Sandbox, root: Path) -> None:
    """HOME inside is the temporary folder, without what ours holds."""
    with contextlib.suppress(OSError):
        (Path.home() / ".netrc").write_text("canary")

    ended = run(box, root, "import os; print(os.path.expanduser('~'), '.netrc' in os.listdir('/tmp'))")

    assert said(ended) == "/tmp False"


# Behind Landlock


@pytest.fixture
def landlock() -> Sandbox:
    return make_box("landlock")


@pytest.mark.parametrize("abi", [1, 2, 3, 4, pytest.param(5, marks=pytest.mark.slow)])
def test_older_kernels_have_no_hole_either(landlock: Sandbox, abi: int) -> None:
    """What an older Landlock does not hold (truncation, TCP, signals, abstract sockets) is held by seccomp."""
    assert sandbox.probe(Sandbox("landlock", "", landlock.program, abi)) == []


def test_modes_are_its_own_affair_inside_alone(landlock: Sandbox, root: Path, tmp_path: Path) -> None:
    """chmod works on the trial's files by every call for it, and on nothing else, through links and handles neither."""
    for name in ("judge", "data"):
        (tmp_path / name).write_text(name)
        (tmp_path / name).chmod(0o600)
    code = TRY + (
        "open('mine', 'w').close(); os.symlink(sys.argv[1], 'link'); d = os.open('.', os.O_RDONLY)\n"
        "attempt(lambda: os.chmod('mine', 0o4751)); attempt(lambda: os.fchmod(os.open('mine', 0), 0o711))\n"
        "attempt(lambda: os.chmod('mine', 0o755, dir_fd=d)); print(oct(os.stat('mine').st_mode))\n"
        "attempt(lambda: os.chmod(sys.argv[1], 0o644)); attempt(lambda: os.chmod('link', 0o644))\n"
        "attempt(lambda: os.chmod('../judge', 0o644)); attempt(lambda: os.fchmod(os.open(sys.argv[2], 0), 0o644))\n"
        "attempt(lambda: os.chown(sys.argv[1], 1, 1)); attempt(lambda: os.setxattr(sys.argv[1], 'user.x', b'1'))\n"
        "os.utime('mine', (1, 1)); os.utime(sys.argv[1], (1, 1))"
    )
    (root / "program.py").write_text(code)
    world = World(root, {"/data": tmp_path / "data"})
    argv = [sys.executable, "-I", "program.py", str(tmp_path / "judge"), str(tmp_path / "data")]
    before = [(tmp_path / name).stat() for name in ("judge", "data")]
    words = [line.split()[0] for line in said(sandbox.run(landlock, argv, world, Limits(20))).split("\n")]

    assert words == ["DONE"] * 3 + ["0o100755"] + ["REFUSED"] * 6
    for name, was in zip(("judge", "data"), before, strict=True):
        found = (tmp_path / name).stat()
        assert (found.st_mode, found.st_mtime, found.st_uid) == (was.st_mode, was.st_mtime, was.st_uid)


def test_sockets_are_reached_inside_alone(landlock: Sandbox, root: Path, tmp_path: Path) -> None:
    """Workers talk through sockets in the trial's folder; a user's session bus or Docker's socket is out of reach, by
    its path, through a link, by a datagram and by a handle of its folder."""
    with socket.socket(socket.AF_UNIX) as outside, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        outside.bind(str(tmp_path / "s"))
        outside.listen()
        datagrams.bind(str(tmp_path / "d"))
        code = TRY + (
            "server = socket.socket(socket.AF_UNIX); server.bind('mine'); server.listen()\n"
            "client = socket.socket(socket.AF_UNIX); client.connect('mine'); other, _ = server.accept()\n"
            "other.sendall(b'x'); print(client.recv(9), client.getpeername())\n"
            "s, d = sys.argv[1:]; os.symlink(s, 'link')\n"
            "def reach(path): socket.socket(socket.AF_UNIX).connect(path)\n"
            "attempt(lambda: reach(s)); attempt(lambda: reach('link')); attempt(lambda: reach('../s'))\n"
            "attempt(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'x', d))\n"
            "attempt(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', d))\n"
            "attempt(lambda: socket.socket(socket.AF_INET6)); attempt(lambda: socket.socket(socket.AF_NETLINK, 3))\n"
        )
        lines = said(run(landlock, root, code, tmp_path / "s", tmp_path / "d")).split("\n")

    assert lines[0].startswith("b'x' ")
    assert [line.split()[0] for line in lines[1:]] == ["REFUSED"] * 7


@pytest.mark.parametrize("abi", [5, 7])
def test_packets_reach_nobody_outside(
    landlock: Sandbox, root: Path, tmp_path: Path, abi: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA's first call makes a socket of packets in sequence (an H100 with driver 580: error 304 otherwise), so where
    there are accelerators they are had. They lead to none of the machine's, by path or abstract name, with or without
    a connect."""
    make = "socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)"
    refused(run(replace(landlock, abi=abi), root, f"{TRY}attempt(lambda: {make})"))
    monkeypatch.setattr(levels, "accelerator_nodes", lambda: [os.devnull])
    name = f"gitresearch-test-{os.getpid()}-{abi}"
    with contextlib.ExitStack() as stack:
        outside = [stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) for _ in range(2)]
        for server, place in zip(outside, (str(tmp_path / "q"), f"\0{name}"), strict=True):
            server.bind(place)
            server.listen()
        code = TRY + (
            f"def packets(): return {make}\n"
            f"server = packets(); server.bind('\\0inside-{name}'); server.listen(); print('waits')\n"
            "for place in (sys.argv[1], '\\0' + sys.argv[2]):\n"
            "    attempt(lambda: packets().connect(place)); attempt(lambda: packets().sendto(b'x', place))\n"
            "    attempt(lambda: packets().sendmsg([b'x'], [], 0, place))\n"
        )
        lines = said(run(replace(landlock, abi=abi), root, code, tmp_path / "q", name)).split("\n")

    assert lines[0] == "waits"
    assert [line.split()[0] for line in lines[1:]] == ["REFUSED"] * 6


@pytest.mark.parametrize("abi", [5, 7])
def test_signals_reach_its_own_alone(landlock: Sandbox, root: Path, abi: int) -> None:
    """A program signals itself, its children and their groups; nobody else, and not the process that watches it."""
    if abi > landlock.abi:
        pytest.skip("this kernel's Landlock is older")
    victim = subprocess.Popen(["sleep", "30"], start_new_session=True)
    try:
        code = TRY + (
            "import subprocess\n"
            "child = subprocess.Popen(['sleep', '30']); child.kill(); print(child.wait())\n"
            "group = subprocess.Popen(['sleep', '30'], start_new_session=True); os.killpg(group.pid, 9)\n"
            "print(group.wait()); signal.signal(signal.SIGUSR1, lambda *_: print('heard'))\n"
            "signal.raise_signal(signal.SIGUSR1); os.kill(0, signal.SIGUSR1)\n"
            "pid = int(sys.argv[1])\n"
            "for act in (lambda: os.kill(pid, 9), lambda: os.killpg(pid, 9), lambda: os.kill(os.getppid(), 9),\n"
            "            lambda: os.kill(pid, 0)): attempt(act)\n"
            "import resource; attempt(lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (0, 0)))\n"
            "attempt(lambda: os.sched_setaffinity(pid, {0})); attempt(lambda: os.setpriority(os.PRIO_PROCESS, pid, 9))"
        )
        ended = run(Sandbox("landlock", "", landlock.program, abi), root, code, victim.pid)
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()
    lines = said(ended).split("\n")
    assert lines[:4] == ["-9", "-9", "heard", "heard"]
    assert [line.split()[0] for line in lines[4:]] == ["REFUSED"] * 7


def test_five_of_five_daemons_are_ended(landlock: Sandbox, root: Path) -> None:
    """Processes that left their parents and sessions before anybody looked are found: the launcher inherits them."""
    word = f"981.{os.getpid()}"
    ended = run(landlock, root, DAEMON.format(rest=0).replace("if os.fork() == 0:\n    os.setsid()",
                "for _ in range(5):\n  if os.fork() == 0:\n    os.setsid()"), word)  # fmt: skip

    assert ended.exit_code == 0
    assert gone(word, 0.01)


@pytest.mark.slow
def test_a_fork_bomb_can_not_outrun_its_end(landlock: Sandbox, root: Path) -> None:
    """Every process forks as fast as it can, in sessions of their own; once the end has begun nobody can any more."""
    word = f"980.{os.getpid()}"
    code = "import os\nwhile True:\n    if os.fork() == 0: os.setsid()"

    ended = run(landlock, root, code, word, processes=60, wall_seconds=5)
    assert ended.stopped_by in ("processes", "wall")
    assert ended.wall_seconds < process.ENDING_SECONDS, "the launcher gave up"
    assert gone(word, 0.01)


def test_wild_arguments_do_not_end_the_watch(landlock: Sandbox, root: Path) -> None:
    """Pointers to nowhere, handles that are none and sizes that are no sizes are refused, and the walls stand after."""
    code = TRY + (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "wild = (0, 1, -1, 2**64 - 1, 2**63, 2**62, 0xffffffffffff0000)\n"
        "for number in ((42, 90, 91, 268, 452) if os.uname().machine == 'x86_64' else (203, 52, 53, 452)):\n"
        "    for one in wild:\n        for two in wild:\n"
        "            got = libc.syscall(number, *map(ctypes.c_ulong, (one, two, two, one)))\n"
        "            assert got == -1, (number, one, two)\n"
        "attempt(lambda: os.kill(os.getppid(), 0)); open('x', 'w').close(); os.chmod('x', 0o600); print('stands')"
    )
    for abi in (landlock.abi, 1):
        words = said(run(Sandbox("landlock", "", landlock.program, abi), root, code)).split("\n")
        assert words[-2:] == ["REFUSED Operation not permitted", "stands"]


def test_what_outlives_a_run_is_not_set_through_files_it_reads(landlock: Sandbox, root: Path, tmp_path: Path) -> None:
    """ioctls of file systems: some write to the file's own record with no right but to read."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bits").write_text("[1]")
    code = """
import fcntl, os, sys
handle = os.open(sys.argv[1] + "/bits", os.O_RDONLY)
for order in (0x40087602, 0x80087601, 0x40086602, 0x401C5820, 0x40806685, 0x5000940E):  # the first sets a generation
    try: fcntl.ioctl(handle, order, bytearray(128)); print("done")
    except OSError as error: print(error.errno)
"""
    data = tmp_path / "data"
    ended = sandbox.run(
        landlock, [sys.executable, "-I", "-c", code, str(data)], World(root, {"/data": data}), Limits(20)
    )
    assert said(ended).split() == ["1"] * 6


def test_the_priority_of_all_its_user_s_processes_stays(landlock: Sandbox, root: Path) -> None:
    """0 in the place of a number is the caller for a process, and everybody's of this user for a user."""
    code = """
import ctypes, os
print(os.nice(1) > 0)
try: os.setpriority(os.PRIO_USER, 0, os.getpriority(os.PRIO_USER, 0)); print("done")
except PermissionError: print("refused")
libc = ctypes.CDLL(None, use_errno=True)
number = 251 if os.uname().machine == "x86_64" else 30
print(libc.syscall(number, 3, 0, 2 << 13 | 4), ctypes.get_errno())
"""
    assert said(run(landlock, root, code)).split("\n") == ["True", "refused", "-1 1"]


def test_shared_memory_is_tidied(landlock: Sandbox, root: Path) -> None:
    """What a trial leaves in /dev/shm goes with it; what was there before stays. (It is held open here: runs of other
    tests beside this one, to which it is new, would take it for theirs.)"""
    before = Path(f"/dev/shm/gitresearch-test-{os.getpid()}")
    held = before.open("w")
    held.write("ours")
    held.flush()
    try:
        left = f"/dev/shm/left-{os.getpid()}"
        assert said(run(landlock, root, "import sys; open(sys.argv[1], 'w').write('x'); print('fine')", left)) == "fine"
        assert not os.path.exists(left)
        assert before.read_text() == "ours"
    finally:
        held.close()
        before.unlink()


def test_workers_start_inside(wall: Sandbox, root: Path) -> None:
    """Queues, locks and managers of multiprocessing work: semaphores by name, sockets by path."""
    code = (
        "import multiprocessing as mp\nif __name__ == '__main__':\n    q = mp.Queue()\n"
        "    p = mp.Process(target=q.put, args=(3,)); p.start(); print(q.get()); p.join()\n"
        "    with mp.Manager() as m: d = m.dict(); d[1] = 2; print(dict(d))"
    )
    assert said(run(wall, root, code)) == "3\n{1: 2}"


def test_walls_that_cannot_be_built_are_our_fault(landlock: Sandbox, root: Path, tmp_path: Path) -> None:
    """Data that is gone ends the run before the program began; a program that exits with the same code has begun."""
    world = World(root, {"/data": tmp_path / "gone"})
    ended = sandbox.run(landlock, ["true"], world, Limits(5))

    assert (ended.began, ended.exit_code) == (False, 1)
    assert "No such file" in said(ended)
    assert run(landlock, root, "raise SystemExit(1)").began
    assert sandbox.run(landlock, ["no-such-program-7"], World(root), Limits(20)).began


def test_its_temporary_folder_is_counted_and_goes(landlock: Sandbox, root: Path) -> None:
    """TMPDIR is the run's own, as short as sockets need it, counted as its disk, and gone afterwards."""
    code = "import os, tempfile; d = tempfile.gettempdir(); print(d); open(d + '/x', 'wb').write(bytes(9 << 20))"
    ended = run(landlock, root, code, disk_bytes=8 << 20)

    assert ended.stopped_by == "disk" or b"File too large" in ended.log
    assert not os.path.exists(said(ended).split("\n")[0])


def test_open_files_are_limited(any_box: Sandbox, root: Path) -> None:
    """A program can hold so many files and no more, also as root."""
    code = (
        TRY
        + "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))\nkept = []\n"
        + ("attempt(lambda: [kept.append(os.dup(0)) for _ in range(100)])")
    )
    lines = said(run(any_box, root, code, open_files=50)).split("\n")

    assert lines == ["(50, 50)", "REFUSED Too many open files"]


# Seatbelt, as text


def test_a_profile_for_macos() -> None:
    """Everything is denied but what is named; no character of a path ends its string."""
    text = seatbelt.profile(["/opt/python"], ['/tmp/a"b\\c (deny default)'])

    assert text.startswith("(version 1)\n(deny default)\n")
    assert '(subpath "/opt/python")' in text
    assert '(subpath "/tmp/a\\"b\\\\c (deny default)")' in text
    assert not re.search(r"^\(allow (default|network\*)", text, re.MULTILINE)
    writes = next(line for line in text.split("\n") if line.startswith("(allow file-write* "))
    assert "/opt/python" not in writes
    assert text.count("(") - 1 == text.count(")") - 1  # the path's own pair is inside a string
    with pytest.raises(ValueError, match="line break"):
        seatbelt.profile([], ["/tmp/a\n(allow default)"])


def test_the_command_for_macos(root: Path) -> None:
    """The program is given the trial's real folders, and a temporary one is asked for."""
    box = Sandbox("seatbelt", "sandbox-exec", seatbelt.PROGRAM)
    world = World(root, {"/data": root.parent}, {"/artefact": root})
    command = box.command(["python", "x.py"], world, Limits(5, open_files=77))

    assert command[:2] == ["/bin/sh", "-c"]
    assert "ulimit -n 77" in command[2]
    assert command[4:6] == ["/usr/bin/sandbox-exec", "-p"]
    assert command[-2:] == ["python", "x.py"]
    assert box.path(world, "/artefact") == str(root)


def test_a_channel_passes_through_every_level(any_box: Sandbox, tmp_path: Path) -> None:
    """What a program writes on its channel is heard while it runs, and whoever heeds it can end the run; it reads
    nothing there."""
    heard: list[bytes] = []

    def heed(_used: float, lines: Sequence[bytes]) -> str:
        heard.extend(lines)
        return "enough" if lines else ""

    code = "import os, time; end = int(os.environ['END']); assert os.read(end, 1) == b''; "
    code += "os.write(end, b'1 2 3\\n'); time.sleep(20)"
    channel = Channel(heed)
    with channel.held():
        world = World(tmp_path, env={"END": str(channel.handle)}, channel=channel)
        ended = sandbox.run(any_box, [sys.executable, "-c", code], world, Limits(20))
    assert (ended.stopped_by, heard) == ("enough", [b"1 2 3"])
    assert ended.wall_seconds < 15
