"""The kernel's session keyring, which programs inherit: a trial could leave words in it for the next one.

Measured: what one sandboxed program added, the next one found, wherever the user's login had made a session keyring.
"""

import ctypes
import errno
import os
import platform
import sys

_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
_JOIN = 1


def renew() -> None:
    """Give the calling thread, and what it starts, a new and empty session keyring. OSError where there is no room for
    one; a kernel or container that has no keyrings for us has none for a trial."""
    number = _KEYCTL.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(number, _JOIN, None) < 0 and ctypes.get_errno() == errno.EDQUOT:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "session keyring")
