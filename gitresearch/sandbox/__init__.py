"""Run a trial's program in an empty world, with clock and limits held from outside.

What is covered at level `bubblewrap`: the program sees /usr, the interpreter's folders, its files at /trial and what
is mounted for it, all read-only but /trial, /artefact, /tmp and /dev/shm; no network, no other processes, no keys, no
user namespaces of its own; it ends with us, and nothing it started outlives it. Level `none` covers limits only (time,
memory, processes, log, size of one file): the program can read and write whatever the user can, and outcomes say so.

What is not covered at either level: side channels through timing and caches, bugs of the kernel, memory of an
accelerator. /tmp and /dev/shm lie in memory, each up to the limit for disk, beside the limit for memory; files without
a name count as disk. Memory and processes are counted 20 times a second and disk once, so a limit can be passed for
that long.

The clock is the parent's: CPU seconds of the whole process tree by the kernel's accounting, wall seconds by the
monotonic clock. What the program does to its own clock changes nothing.
"""

from gitresearch.sandbox.gate import Gate
from gitresearch.sandbox.ladder import choose, probe
from gitresearch.sandbox.process import Process, run
from gitresearch.sandbox.waiting import until_ended
from gitresearch.sandbox.world import Ended, Limits, Sandbox, World, interpreter, interpreter_folders

__all__ = [
    "Ended", "Gate", "Limits", "Process", "Sandbox", "World", "choose", "interpreter", "interpreter_folders",
    "probe", "run", "until_ended",
]  # fmt: skip
