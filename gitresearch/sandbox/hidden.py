"""Running a program as its user does, but for one folder, which is empty for it.

Thin on purpose: a coding agent needs its network, its login and its tools. With user namespaces, bubblewrap binds the
whole root as it is and lays an empty folder over the one to hide. The user namespace keeps the program from taking that
off again, and from walking around it through /proc/PID/root of a process outside, as root too.
"""

import os
import shutil
import subprocess
from pathlib import Path


def hiding(folder: Path) -> list[str]:
    """The words to put before a program's own so that it finds the folder empty; none where that can't be done here, or
    where there is nothing to hide. Tried each time: 10 ms beside an agent's minutes."""
    program = shutil.which("bwrap")
    if program is None or not folder.is_dir():
        return []
    place = os.path.realpath(folder)
    words = [program, "--dev-bind", "/", "/", "--tmpfs", place, "--remount-ro", place]
    words += ["--unshare-user", "--cap-drop", "ALL", "--die-with-parent", "--"]
    try:
        shown = subprocess.run([*words, "ls", "-A", place], capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return words if shown.returncode == 0 and not shown.stdout.strip() else []
