"""The program that builds the `landlock` level around another program, and stays beside it until nothing of it is left.

    python -I -S launcher.py --abi=7 --read=DIR --write=DIR --device=NODE --files=N --bytes=N [--threads=1]
        [--report=FD] -- ARGV…

It needs the standard library and the kernel alone (5.13 or newer), so it works where namespaces are refused: in most
containers. Inside, nothing is readable but what a `--read` or `--write` names (Landlock), and the process has no
capabilities and no way to gain any. Landlock does not see chmod, sockets with a path or, before Linux 6.12, signals; so
seccomp hands those calls to this process, which does them itself on what lies in a `--write` folder and refuses the
rest: it works on its own copy of the arguments, which the program can't change any more. Every new process is passed
through here too. At the end the line is cut: from then on nothing inside can fork, and what is left is killed.

Exit: the program's code, 128 + n where signal n ended it, 1 where the walls could not be built (nothing is reported
then). A SIGTERM ends everything; so does the death of whoever started this.
"""

import ctypes
import errno
import fcntl
import os
import resource
import select
import signal
import stat
import struct
import sys
import time

# Not `socket`: that imports 6 ms of Python for names that are here.
from _socket import AF_UNIX, CMSG_LEN, SCM_RIGHTS, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET, socket, socketpair
from collections.abc import Sequence
from contextlib import suppress

# What is done with a call: its number on x86_64 and on aarch64. `deny` EPERM, `absent` ENOSYS (so that libraries fall
# back), `noattr` EOPNOTSUPP, `pretend` success, `ask` this process; a number after it: below that Landlock ABI alone.
# What needs a capability or a namespace of its own fails by itself and is listed where it costs the kernel's surface.
CALLS = """
deny ptrace 101 117          deny process_vm_readv 310 270  deny process_vm_writev 311 271
deny kcmp 312 272            deny pidfd_getfd 438 438       deny process_madvise 440 440
deny process_mrelease 448 448 deny migrate_pages 256 238    deny move_pages 279 239
deny unshare 272 97          deny setns 308 268             deny chroot 161 51
deny mount 165 40            deny umount2 166 39            deny pivot_root 155 41
deny open_tree 428 428       deny move_mount 429 429        deny fsopen 430 430
deny fspick 433 433          deny mount_setattr 442 442     deny open_by_handle_at 304 265
deny keyctl 250 219          deny add_key 248 217           deny request_key 249 218
deny bpf 321 280             deny perf_event_open 298 241   deny userfaultfd 323 282
deny syslog 103 116          deny fanotify_init 300 262     deny inotify_init 253 -
deny inotify_init1 294 26    deny name_to_handle_at 303 264 deny quotactl 179 60
deny shmget 29 194           deny shmat 30 196              deny shmctl 31 195
deny semget 64 190           deny semop 65 193              deny semtimedop 220 192
deny semctl 66 191           deny msgget 68 186             deny msgsnd 69 189
deny msgrcv 70 188           deny msgctl 71 187             deny mq_open 240 180
deny mq_unlink 241 181       deny chown 92 -                deny fchown 93 55
deny lchown 94 -             deny fchownat 260 54           deny file_setattr 469 469
absent io_uring_setup 425 425 absent io_uring_enter 426 426 absent io_uring_register 427 427
absent clone3 435 435        noattr setxattr 188 5          noattr lsetxattr 189 6
noattr fsetxattr 190 7       noattr removexattr 197 14      noattr lremovexattr 198 15
noattr fremovexattr 199 16   noattr setxattrat 463 463      noattr removexattrat 466 466
pretend utime 132 -          pretend utimes 235 -           pretend futimesat 261 -
pretend utimensat 280 88     ask connect 42 203             ask chmod 90 -
ask fchmod 91 52             ask fchmodat 268 53            ask fchmodat2 452 452
ask fork 57 -                ask vfork 58 -                 clone clone 56 220
unix socket 41 198           unix socketpair 53 199         self1 setpriority 141 140
self1 ioprio_set 251 30      self0 prlimit64 302 261        self0 sched_setaffinity 203 122
self0 sched_setparam 142 118 self0 sched_setscheduler 144 119 self0 sched_setattr 314 274
second ioctl 16 29           deny3 truncate 76 45           second6 fcntl 72 25
ask6 kill 62 129             ask6 tkill 200 130             ask6 tgkill 234 131
deny6 rt_sigqueueinfo 129 138 deny6 rt_tgsigqueueinfo 297 240 deny6 pidfd_send_signal 424 424
"""
# Asked about too where threads are to be named: CUDA's first call writes /proc/PID/task/TID/comm, and gives up where it
# can't (error 304, an H100 with driver 580). It may be written for its own process only, which no rule of Landlock can
# say of processes to come: so we open it. What is opened to be read alone costs nothing.
NAMING = "opens open 2 -               opens openat 257 56"
# Second arguments that are refused: typing into a terminal, whom a descriptor's signals go to.
SECOND = {"ioctl": (0x5412, 0x541C, 0x8901, 0x8902), "fcntl": (8, 10, 15)}
# And every ioctl of these types: file systems' own (ext4 and all, XFS, btrfs, F2FS, bcachefs). Landlock sees none on
# files, and some ask for no right to write: with one a trial left 4 bytes for the next in each file it may read.
OF_FILE_SYSTEMS = (0x6600, 0x7600, 0x5800, 0x9400, 0xF500, 0xBC00)
# Whose priority 0 means, as a first argument: all of this user's processes.
OF_THE_USER = {"setpriority": 2, "ioprio_set": 3}
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, ASK, KILL, ERRNO = 0x7FFF0000, 0x7FC00000, 0x80000000, 0x00050000
NEW_NAMESPACES, THREAD = 0x7E020080, 0x00010000

EXECUTE, WRITE, READ, READ_DIR, REFER, TRUNCATE, IOCTL = 1, 2, 4, 8, 1 << 13, 1 << 14, 1 << 15
# All that can be made and removed, but no device nodes; and files alone.
CHANGES, CHANGES_OF_FILES = sum(1 << bit for bit in (4, 5, 7, 8, 9, 10, 12)), 1 << 5 | 1 << 8
RIGHTS_SINCE = {1: (1 << 13) - 1, 2: REFER, 3: TRUNCATE, 5: IOCTL}
OF_FILES = EXECUTE | WRITE | READ | TRUNCATE | IOCTL
KINDS = {
    "read": READ | READ_DIR | EXECUTE,
    "see": READ | READ_DIR,
    "write": READ | READ_DIR | EXECUTE | WRITE | TRUNCATE | REFER | CHANGES,
    "share": READ | READ_DIR | WRITE | TRUNCATE | CHANGES_OF_FILES,
    "device": READ | READ_DIR | WRITE | IOCTL,
}
SHARED = "/dev/shm"  # noqa: S108
_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *words: object) -> int:
    found: int = _libc.syscall(number, *(ctypes.c_long(word) if isinstance(word, int) else word for word in words))
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found


def _ioctl(handle: int, number: int, words: bytes | bytearray) -> int:
    """The call's result, begun again after a signal: Python does not (before 3.14), and a trial can see to signals."""
    while True:
        with suppress(InterruptedError):
            found: int = fcntl.ioctl(handle, number, words if isinstance(words, bytearray) else bytearray(words))
            return found


def _prctl(option: int, value: int, third: int = 0) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(third), 0, 0) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def landlock_abi() -> int:
    """The version of Landlock that this kernel speaks; 0 where it has none, or where we don't know this machine."""
    with suppress(OSError):
        return _call(444, None, 0, 1) if sys.platform == "linux" and os.uname().machine in MACHINES else 0
    return 0


# Inside: what the child does to itself before it becomes the program.


def _drop_capabilities() -> None:
    """All of them, also those that a root user's next program would get back."""
    for capability in range(64):
        with suppress(OSError):  # no such one; or there is no right to, and no_new_privs has to do
            _prctl(24, capability)
    with suppress(OSError):
        _prctl(47, 4)
    number = 126 if os.uname().machine == "x86_64" else 91
    _call(number, struct.pack("Ii", 0x20080522, 0), bytes(24))


def _landlock(abi: int, shown: Sequence[tuple[str, str]]) -> None:
    handled = sum(rights for since, rights in RIGHTS_SINCE.items() if since <= abi)
    attributes = struct.pack("QQQ", handled, 3, 3)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = _call(444, attributes, len(attributes), 0)
    for kind, path in shown:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rights = KINDS[kind] & handled & (-1 if stat.S_ISDIR(os.fstat(handle).st_mode) else OF_FILES)
        _call(445, ruleset, 1, struct.pack("=Qi", rights, handle), 0)
        os.close(handle)
    _call(446, ruleset, 0)
    os.close(ruleset)


def calls(machine: str, abi: int, threads: bool = False) -> list[tuple[str, str, int]]:
    """(action, name, number) of every call that is not simply allowed."""
    words = iter([*CALLS.split(), *(NAMING.split() if threads else ())])
    found = []
    for action, name, intel, arm in zip(words, words, words, words, strict=True):
        number, below = intel if machine == "x86_64" else arm, action[-1] if action[-1] in "36" else "99"
        if number != "-" and abi < int(below):
            found.append((action.rstrip("36"), name, int(number)))
    return found


def _answer(action: str, name: str, threads: bool) -> list[tuple[int, int, int, int]]:
    """The filter's instructions once it is this call; each way through them ends in a verdict."""

    def verdict(value: int) -> tuple[int, int, int, int]:
        return (0x06, 0, 0, value)

    def argument(index: int) -> tuple[int, int, int, int]:
        return (0x20, 0, 0, 16 + 8 * index)  # its low half: what the kernel reads of an int

    refused, allowed, ask = verdict(ERRNO | errno.EPERM), verdict(ALLOW), verdict(ASK)
    if action == "unix":  # other families are the network; datagrams reach any socket without a connect
        packets = SOCK_SEQPACKET if threads else SOCK_STREAM  # CUDA's first call makes one, and gives up without
        family, kinds = (0x15, 0, 5, AF_UNIX), [(0x15, 1, 0, SOCK_STREAM), (0x15, 0, 1, packets)]
        other = verdict(ERRNO | errno.EAFNOSUPPORT)
        return [argument(0), family, argument(1), (0x54, 0, 0, 0xF), *kinds, allowed, other]
    if action == "clone":  # threads end with their process
        return [argument(0), (0x45, 2, 0, NEW_NAMESPACES), (0x45, 0, 2, THREAD), allowed, refused, ask]
    if action == "opens":  # to be written
        return [argument(1 if name == "open" else 2), (0x54, 0, 0, os.O_ACCMODE), (0x15, 0, 1, 0), allowed, ask]
    if action == "self0":  # of other processes of this user: their limits
        return [argument(0), (0x15, 0, 1, 0), allowed, refused]
    if action == "self1":  # and their priority
        return [argument(0), (0x15, 3, 0, OF_THE_USER[name]), argument(1), (0x15, 0, 1, 0), allowed, refused]
    if action == "second":
        tests = [(0x15, value) for value in SECOND[name]]
        if name == "ioctl":
            tests += [(0x54, 0xFF00), *((0x15, kind) for kind in OF_FILE_SYSTEMS)]
        jumps = [(code, len(tests) - at if code == 0x15 else 0, 0, value) for at, (code, value) in enumerate(tests)]
        return [argument(1), *jumps, allowed, refused]
    number = {"deny": errno.EPERM, "absent": errno.ENOSYS, "noattr": errno.EOPNOTSUPP, "pretend": 0}
    return [ask if action == "ask" else verdict(ERRNO | number[action])]


def _seccomp(abi: int, threads: bool) -> int:
    """Put the filter on; the descriptor on which the calls to be asked about arrive."""
    machine = os.uname().machine
    filter_ = [(0x20, 0, 0, 4), (0x15, 1, 0, MACHINES[machine]), (0x06, 0, 0, KILL), (0x20, 0, 0, 0)]
    if machine == "x86_64":
        filter_ += [(0x35, 0, 1, 0x40000000), (0x06, 0, 0, KILL)]  # the same calls under other numbers (x32)
    for action, name, number in calls(machine, abi, threads):
        answer = _answer(action, name, threads)
        filter_ += [(0x15, 0, len(answer), number), *answer]
    filter_.append((0x06, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in filter_))
    program = struct.pack("HP", len(filter_), ctypes.addressof(code))
    number = 317 if machine == "x86_64" else 277
    try:
        return _call(number, 1, 8 | 32, program)  # a signal does not begin a call again that we have answered (5.19)
    except OSError:
        return _call(number, 1, 8, program)


def _become(options: "Options", argv: list[str], parent: socket) -> None:
    """In the child: build the walls, hand the parent its end, and run the program."""
    os.setsid()
    for kind, value in (
        (resource.RLIMIT_NOFILE, options.files), (resource.RLIMIT_FSIZE, options.bytes), (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        hard = resource.getrlimit(kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))
    _prctl(38, 1)
    _drop_capabilities()
    _prctl(1, signal.SIGKILL)
    _landlock(options.abi, options.shown)
    asked = _seccomp(options.abi, options.threads)
    parent.sendmsg([b"x"], [(SOL_SOCKET, SCM_RIGHTS, struct.pack("i", asked))])
    os.close(asked)
    try:
        os.execvp(argv[0], argv)  # noqa: S606
    except OSError as error:
        os.write(2, f"can't start {argv[0]}: {error.strerror}\n".encode())
        os._exit(127)


# Outside: what the parent answers.


class Asked:
    """Answers calls: with their result, or None to let the kernel do it. `writable` are the folders in which sockets
    may be reached and modes changed."""

    def __init__(self, handle: int, machine: str, abi: int, writable: Sequence[str]) -> None:
        self._handle = handle
        known = calls(machine, abi, threads=True)
        self._names = {number: name for action, name, number in known if action in ("ask", "clone", "opens")}
        self._writable = [os.path.realpath(folder) for folder in writable]

    def serve(self) -> None:
        """Take one call and answer it."""
        note = bytearray(80)
        with suppress(FileNotFoundError):  # it was killed meanwhile
            _ioctl(self._handle, 0xC0502100, note)
            key, pid, _, number, _, _, *words = struct.unpack("QIIiIQ6Q", note)
            found, told = None, 0
            try:
                act = getattr(self, f"_{self._names[number]}", None)
                found = act(key, pid, words) if act is not None else None
            except OSError as error:
                told = -(error.errno or errno.EPERM)
            except Exception:  # the arguments are a stranger's: an address of 2**64 - 1 is no OSError
                told = -errno.EFAULT
            answer = struct.pack("QqiI", key, found or 0, told, 1 if found is None and not told else 0)
            _ioctl(self._handle, 0xC0182101, answer)

    def _still(self, key: int) -> None:
        """That pid was the caller's all the time that we looked into it."""
        _ioctl(self._handle, 0x40082102, struct.pack("Q", key))

    def _memory(self, key: int, pid: int, address: int, size: int) -> bytes:
        handle = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.pread(handle, size, address)
        finally:
            os.close(handle)
        self._still(key)
        return found

    def _reach(self, key: int, pid: int, folder: int, path: bytes, flags: int = 0) -> int:
        """A handle of what the caller means, where it lies in a writable folder."""
        at = ctypes.c_int(folder).value
        base = f"/proc/{pid}/cwd" if at == -100 else f"/proc/{pid}/fd/{at}"
        handle = os.open(os.path.join(base.encode(), path) if path else base, os.O_PATH | os.O_CLOEXEC | flags)
        try:
            self._still(key)
            place = os.readlink(f"/proc/self/fd/{handle}")
            if not any(place == folder or place.startswith(f"{folder}/") for folder in self._writable):
                raise PermissionError(errno.EPERM, "outside")
        except OSError:
            os.close(handle)
            raise
        return handle

    def _set_mode(self, handle: int, mode: int) -> int:
        try:
            os.chmod(f"/proc/self/fd/{handle}", mode & 0o777)  # no more than it could by itself
        finally:
            os.close(handle)
        return 0

    def _path(self, key: int, pid: int, address: int) -> bytes:
        path, end, _ = self._memory(key, pid, address, 4096).partition(b"\0")
        if not path or not end:
            raise FileNotFoundError(errno.ENOENT, "no path")
        return path

    def _chmod(self, key: int, pid: int, words: list[int]) -> int:
        return self._set_mode(self._reach(key, pid, -100, self._path(key, pid, words[0])), words[1])

    def _fchmod(self, key: int, pid: int, words: list[int]) -> int:
        return self._set_mode(self._reach(key, pid, words[0], b""), words[1])

    def _fchmodat(self, key: int, pid: int, words: list[int]) -> int:
        return self._set_mode(self._reach(key, pid, words[0], self._path(key, pid, words[1])), words[2])

    def _fchmodat2(self, key: int, pid: int, words: list[int]) -> int:
        if words[3]:
            raise OSError(errno.EOPNOTSUPP, "flags")
        return self._fchmodat(key, pid, words)

    def _connect(self, key: int, pid: int, words: list[int]) -> int:
        """A socket connected by us takes the place of the caller's own. Abstract names are the whole machine's."""
        target, address, size = ctypes.c_int(words[0]).value, words[1], min(words[2], 110)
        family, path = struct.unpack(f"H{max(size, 2) - 2}s", self._memory(key, pid, address, max(size, 2)))
        if family != AF_UNIX or not path or path.startswith(b"\0"):
            raise PermissionError(errno.EPERM, "not a path")
        with open(f"/proc/{pid}/fdinfo/{target}") as told:
            flags = int(next(line for line in told if line.startswith("flags:")).split()[1], 8)
        place = self._reach(key, pid, -100, path.partition(b"\0")[0])
        made = socket(AF_UNIX, SOCK_STREAM)
        try:
            made.settimeout(0.5)
            made.connect(f"/proc/self/fd/{place}")
            made.setblocking(not flags & os.O_NONBLOCK)
            new = struct.pack("QIIII", key, 1, made.fileno(), target, flags & os.O_CLOEXEC)
            _ioctl(self._handle, 0x40182103, new)
        finally:
            made.close()
            os.close(place)
        return 0

    def _open(self, key: int, pid: int, words: list[int]) -> int | None:
        return self._openat(key, pid, [0, *words])

    def _openat(self, key: int, pid: int, words: list[int]) -> int | None:
        """The name of a thread of its own, to be written; the kernel lets nobody write another process's by it."""
        with suppress(OSError, ValueError):
            root, proc, process, task, thread, comm = self._path(key, pid, words[1]).split(b"/")
            own = process == b"self" or os.path.exists(f"/proc/{pid}/task/{int(process)}")
            if (root, proc, task, comm) == (b"", b"proc", b"task", b"comm") and own:
                handle = os.open(f"/proc/{pid}/task/{int(thread)}/comm", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    new = struct.pack("QIIII", key, 0, handle, 0, words[2] & os.O_CLOEXEC)
                    return _ioctl(self._handle, 0x40182103, new)
                finally:
                    os.close(handle)
        return None

    def _kill(self, key: int, _pid: int, words: list[int]) -> None:
        """Its own processes, and groups of them: `setsid` made those its own."""
        target = ctypes.c_int(words[0]).value
        if target != 0 and (target == -1 or not _is_below(abs(target))):
            raise PermissionError(errno.EPERM, "not its own")
        self._still(key)

    _tkill = _tgkill = _kill


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as told:
            return int(told.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _is_below(pid: int) -> bool:
    """Whether a process descends from us."""
    while pid > 1 and (pid := _parent(pid)) != os.getpid():
        pass
    return pid > 1


def _reap(child: int, code: int | None) -> tuple[int | None, bool]:
    """Take in whatever ended: the child's exit code once it is among them, and whether anything is left."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return code, True
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                code = code if code >= 0 else 128 - code
    return code, False


def _end_all(child: int, code: int | None) -> int:
    """Kill what is left until nothing is: what loses its parent becomes our child. Nothing can fork any more."""
    deadline, left = time.monotonic() + 10.0, True
    while time.monotonic() < deadline:
        code, left = _reap(child, code)
        if not left:
            break
        for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
            if _is_below(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)
    return 128 + signal.SIGKILL if code is None else code


def _tidy_shared(before: set[str]) -> None:
    """Remove what is new in /dev/shm, ours, and held by no process that lives."""
    with suppress(OSError):
        left = {f"{SHARED}/{name}" for name in os.listdir(SHARED) if name not in before}
        left = {path for path in left if _is_own_file(path)}
        for pid in os.listdir("/proc") if left else ():
            with suppress(OSError), open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
                left -= {line.split(maxsplit=5)[-1].strip() for line in maps if SHARED in line}
                left -= {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        for path in left:
            os.unlink(path)


def _is_own_file(path: str) -> bool:
    with suppress(FileNotFoundError):  # others remove theirs meanwhile
        found = os.lstat(path)
        return found.st_uid == os.getuid() and stat.S_ISREG(found.st_mode)
    return False


class Options:
    """The words before `--`."""

    def __init__(self, words: Sequence[str]) -> None:
        pairs = [tuple(word.removeprefix("--").split("=", 1)) for word in words]
        self.shown = [(name, value) for name, value in pairs if name in KINDS]
        numbers = {name: int(value) for name, value in pairs if name not in KINDS}
        self.abi, self.files, self.bytes = numbers["abi"], numbers["files"], numbers["bytes"]
        self.report, self.threads = numbers.get("report", -1), bool(numbers.get("threads"))


def _watch(child: int, asked: Asked, handle: int, wake: int) -> int | None:
    """Answer and take in until the child has ended, or a SIGTERM came (None)."""
    ready = select.poll()
    ready.register(wake, select.POLLIN)
    ready.register(handle, select.POLLIN)
    while True:
        for found, event in ready.poll():
            if found == wake and signal.SIGTERM in os.read(wake, 4096):
                return None
            if found == handle and event & select.POLLIN:
                asked.serve()
            elif found == handle:
                ready.unregister(handle)
        if (code := _reap(child, None)[0]) is not None:
            return code


def main(words: list[str]) -> int:
    """Run the program; the exit code."""
    split = words.index("--")
    options, argv = Options(words[:split]), words[split + 1 :]
    before = set(os.listdir(SHARED)) if os.path.isdir(SHARED) else set()
    wake, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    _prctl(36, 1)  # the orphans of the program become ours
    _prctl(1, signal.SIGTERM)
    if options.report >= 0:
        os.set_inheritable(options.report, False)
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    child = os.fork()
    if child == 0:
        try:
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            _become(options, argv, theirs)
        except BaseException as error:
            os.write(2, f"landlock: {error}\n".encode())
        os._exit(1)
    theirs.close()
    _, sent, _, _ = ours.recvmsg(1, CMSG_LEN(4))
    if not sent:
        _end_all(child, None)
        return 1
    handle: int = struct.unpack("i", sent[0][2][:4])[0]
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # whoever talks to the program sees when it hangs up
    os.dup2(null, 1)
    writable = [path for kind, path in options.shown if kind == "write"]
    code = None
    try:
        code = _watch(child, Asked(handle, os.uname().machine, options.abi, writable), handle, wake)
    finally:
        os.close(handle)
        code = _end_all(child, code)
    _tidy_shared(before)
    if options.report >= 0:
        os.write(options.report, b"exit-code")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
