"""The expected error: one sentence, and the command to type.

Everything below the command line raises `GitResearchError`; only the command line turns it into a line on stderr and
an exit code. Whatever else escapes is our bug and ends as exit code 3 with a saved report.
"""

from typing import Literal

# Why an agent came up with nothing: its answer was no edit; its server is out for now; it is set up wrongly.
Fault = Literal["answer", "outage", "setup"]


class GitResearchError(Exception):
    """An error a person can mend. `message` says what is wrong; `hint` is the command to type, or empty."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class FormatError(GitResearchError):
    """A name, message or note that cannot be read back, or must not be written."""
