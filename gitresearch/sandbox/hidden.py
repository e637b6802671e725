"""Running a program as its user does, but for one folder, which is empty for it.

Thin on purpose: a coding agent needs its network, its login and its tools. With user namespaces, bubblewrap binds the
whole root as it is and lays an empty folder over the one to hide. The user namespace keeps the program from taking that
off again, and from walking around it through /proc/PID/root of a process outside, as root too. Each folder above it is
bound onto itself, or one program moves that away and the next finds it where nothing lies over it: what is mounted
can't be renamed. Where it can be, its processes have numbers of their own too: none outlives it, and it signals none
outside.
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
    words = [program, "--dev-bind", "/", "/"]
    for above in [*Path(place).parents][-2::-1]:  # from below / downwards
        words += ["--dev-bind", str(above), str(above)]
    words += ["--tmpfs", place, "--remount-ro", place, "--unshare-user", "--cap-drop", "ALL", "--die-with-parent"]
    for own in (["--unshare-pid", "--proc", "/proc"], []):  # a container may refuse a /proc
        if _hides([*words, *own, "--"], place):
            return [*words, *own, "--"]
    return []


def _hides(words: list[str], place: str) -> bool:
    try:
        shown = subprocess.run([*words, "ls", "-A", place], capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return shown.returncode == 0 and not shown.stdout.strip()
