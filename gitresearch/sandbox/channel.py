"""The channel on which a program may say how far it is: it is drained at each look, whatever comes through it.

What comes is hostile bytes. A look reads at most READ_BYTES and hands on the last whole lines of at most LONGEST_LINE
bytes; where a program says more than is read it waits, on its own clock. Nothing is written back, and nobody has to use
it. A socket, since the end of a pipe could be opened again from /proc as the other end.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

READ_BYTES = 1 << 16
LONGEST_LINE, MOST_LINES = 100, 64


class Channel:
    """`heed` gets the seconds used so far and the lines since the last look, and answers why to stop, or nothing."""

    def __init__(self, heed: Callable[[float, Sequence[bytes]], str]) -> None:
        self._heed = heed
        ours, theirs = socket.socketpair()
        ours.shutdown(socket.SHUT_WR)
        self._ours, self.handle = ours.detach(), theirs.detach()  # `handle` is the program's end, under this number
        os.set_blocking(self._ours, False)
        self._rest, self._too_long = b"", False

    @contextmanager
    def held(self) -> Iterator["Channel"]:
        """The channel, for as long as the block runs."""
        try:
            yield self
        finally:
            os.close(self._ours)
            self.hang_up()

    def hang_up(self) -> None:
        """Close our copy of the program's end: it has its own."""
        if self.handle >= 0:
            os.close(self.handle)
        self.handle = -1

    def drop(self) -> None:
        """Forget what was said until now."""
        self._lines()

    def look(self, used: float) -> str:
        """Why the program is to be stopped now; empty where it is not."""
        return self._heed(used, self._lines())

    def _lines(self) -> list[bytes]:
        try:
            data = os.read(self._ours, READ_BYTES)
        except OSError:  # nothing there, or it hung up with a word unsaid
            return []
        *whole, rest = (self._rest + data).split(b"\n")
        if self._too_long and whole:
            del whole[0]
            self._too_long = False
        self._too_long = self._too_long or len(rest) > LONGEST_LINE
        self._rest = b"" if self._too_long else rest
        return [line for line in whole[-MOST_LINES:] if len(line) <= LONGEST_LINE]
