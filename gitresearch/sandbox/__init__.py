"""Run a trial's program in an empty world, with clock and limits held from outside.

The ladder, strongest first; `choose` takes the first rung in whose real profile a program that tries finds no hole:

`bubblewrap`  The program sees /usr, the interpreter's folders, its files at /trial and what is mounted for it, all
              read-only but /trial, /artefact, /tmp and /dev/shm; no network, no other processes, no keys, no user
              namespaces of its own; it ends with us, and nothing it started outlives it.
`landlock`    Where namespaces are refused (containers, Ubuntu's AppArmor): the same things are readable and writable at
              their real paths, by Landlock; no network, no sockets but its own, no capabilities, no reading of other
              processes' memory or environment, no signals to them, by seccomp and a process beside it (launcher.py)
              that also ends every last child. Not covered: names, sizes and times of files outside can be asked for;
              command lines of other processes can be read; /dev/shm is shared with whoever has this user, and counts
              to no limit for disk: at the end of a run goes what is new there and held by no process, whoever of this
              user made it; times of files can't be set inside; reading leaves a file's time of access; names of
              abstract sockets can be taken.
`seatbelt`    macOS, the same by Apple's sandbox-exec; written to its documentation (seatbelt.py). Not covered: a
              process that leaves its parents between two looks outlives the run.
`none`        Limits only (time, memory, processes, log, disk, open files), by the person's own word: the program can
              read and write whatever the user can, and outcomes say so.

What no level covers: side channels through timing and caches, bugs of the kernel, memory of an accelerator. Files
without a name count as disk where a process holds them open; those that are mapped alone, or under way in a socket,
count nowhere (240 MB under limits of 40 MB of disk and 100 of memory). At `bubblewrap` /tmp and /dev/shm lie in memory,
each up to the limit for disk, beside the limit for memory. Memory and processes are counted 20 times a second and disk
once, so a limit can be passed for that long; that holds for root and in containers, where the kernel's own limits
(RLIMIT_NPROC, cgroups) do not.

The clock is the parent's: CPU seconds of the whole process tree by the kernel's accounting (a task clock of perf where
that is let; elsewhere children that live for milliseconds and that nobody waits for go uncounted), wall seconds by the
monotonic clock. What the program does to its own clock changes nothing.
"""

from gitresearch.sandbox.channel import Channel
from gitresearch.sandbox.gate import Gate
from gitresearch.sandbox.hidden import hiding
from gitresearch.sandbox.ladder import Rung, choose, hint, require_accelerators, rungs
from gitresearch.sandbox.launcher import landlock_abi
from gitresearch.sandbox.levels import Sandbox
from gitresearch.sandbox.process import Process, run
from gitresearch.sandbox.selftest import abilities, probe
from gitresearch.sandbox.waiting import until_ended
from gitresearch.sandbox.world import Ended, Limits, World, interpreter, interpreter_folders

__all__ = [
    "Channel", "Ended", "Gate", "Limits", "Process", "Rung", "Sandbox", "World", "abilities", "choose", "hiding",
    "hint", "interpreter", "interpreter_folders", "landlock_abi", "probe", "require_accelerators", "run", "rungs",
    "until_ended",
]  # fmt: skip
