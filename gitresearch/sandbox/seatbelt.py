"""The profile of the `seatbelt` level, for macOS's own `sandbox-exec`: everything is denied but what stands here.

Written to Apple's sandbox(7) and sandbox-exec(1) and to profiles that are published; it was not run by us. On a Mac,
`gitresearch doctor` tries every wall of it; where one does not hold, the level is not chosen.
"""

from collections.abc import Iterable, Mapping

PROGRAM = "/usr/bin/sandbox-exec"
_SYSTEM = ("/usr", "/bin", "/sbin", "/System", "/Library/Apple", "/Library/Developer", "/opt/homebrew",
           "/private/var/db/dyld", "/private/var/db/timezone", "/private/var/select",
           "/private/etc/localtime")  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_FIXED = """\
(version 1)
(deny default)
(allow process-fork)
(allow process-exec)
(allow process-info* (target same-sandbox))
(allow signal (target same-sandbox))
(allow sysctl-read)
(allow file-read-metadata)
(allow file-read-data (literal "/"))
(allow file-read* file-write-data (subpath "/dev/fd"))
(allow ipc-posix-sem)
(allow ipc-posix-shm)
(allow mach-lookup (global-name "com.apple.system.opendirectoryd.libinfo") (global-name "com.apple.logd"))
(allow mach-lookup (global-name "com.apple.MTLCompilerService"))
(allow iokit-open (iokit-user-client-class "AGXDeviceUserClient"))
(allow iokit-open (iokit-registry-entry-class "IOSurfaceRootUserClient"))
"""


def quoted(path: str) -> str:
    """A path as a string of the profile's language (a Scheme): nothing in it can end the string."""
    if "\0" in path or "\n" in path:
        raise ValueError("a path with a line break can't stand in a profile")
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def profile(read: Iterable[str], write: Iterable[str]) -> str:
    """The whole text. Paths must be real ones: the kernel compares what links lead to (/tmp is /private/tmp)."""
    written = list(write)
    lines = [
        _allow("file-read*", {"subpath": (*_SYSTEM, *read, *written), "literal": _DEVICES}),
        _allow("file-write*", {"subpath": written}),
        _allow("file-write-data", {"literal": _DEVICES}),
        # Sockets with a path below what it may write, and no others: workers of a DataLoader talk through them.
        "(allow system-socket (socket-domain AF_UNIX))",
        *(f"(allow network-bind (local unix-socket (subpath {quoted(path)})))" for path in written),
        *(f"(allow network-outbound (remote unix-socket (subpath {quoted(path)})))" for path in written),
    ]
    return _FIXED + "\n".join(lines) + "\n"


def _allow(what: str, places: Mapping[str, Iterable[str]]) -> str:
    rules = [f"({kind} {quoted(path)})" for kind, paths in places.items() for path in paths]
    return f"(allow {what} {' '.join(rules)})"
