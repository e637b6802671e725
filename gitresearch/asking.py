"""Who proposes, how long one proposal may take, and what its tokens cost: the tables `[agent]` and `[[prices]]`."""

import re
import shlex
from dataclasses import dataclass, field

from gitresearch.tables import Wrong, choice, require

AGENTS = ("offline", "openai", "command")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True)
class Session:
    """How long one proposal may talk with its model: calls, tokens in and out, dollars (0: no cap), and seconds."""

    turns: int = 40
    tokens: int = 1_000_000
    dollars: float = 0.0
    seconds: float = 1800.0

    def check(self) -> None:
        for name in ("turns", "tokens", "seconds"):
            require(name, getattr(self, name) > 0, "must be more than 0")
        require("dollars", self.dollars >= 0, "must not be negative")


@dataclass(frozen=True)
class Agent:
    """Who proposes. `base_url` is for `openai`; `command` is a known coding agent's name or any command line;
    `model` and `key_env` (the variable that holds the key) are for both."""

    kind: str = "offline"
    model: str = ""
    base_url: str = ""
    command: str = ""
    key_env: str = "OPENAI_API_KEY"
    max_tokens: int = 8_000
    timeout_seconds: float = 300.0
    temperature: float | None = None
    lineage: bool = True  # false: the control arm, whose agents see their parent's files and nothing of other trials
    patience: int = 3  # turns in a row without an edit, after which a specialist rests until something is kept
    tools: bool = True  # openai: a talk with tools to look around with; false, or where none are taken: answers alone
    context_tokens: int = 64_000  # what the model takes at once, its answer included
    brief_tokens: int = 8_000
    session: Session = field(default_factory=Session)
    seed: int = 0

    def check(self) -> None:
        choice("kind", self.kind, AGENTS)
        require("model", self.kind != "openai" or bool(self.model), "names the model the openai agent asks")
        require("command", self.kind != "command" or bool(words("command", self.command)), "names the program to run")
        require("max_tokens", self.max_tokens > 0, "must be more than 0")
        require("timeout_seconds", self.timeout_seconds > 0, "must be more than 0")
        require("patience", self.patience > 0, "must be more than 0")
        require("context_tokens", self.context_tokens > self.max_tokens, "must be more than max_tokens")
        require("brief_tokens", self.brief_tokens >= 500, "must be at least 500")
        require("key_env", bool(_VARIABLE.fullmatch(self.key_env)), "is the name of a variable, not the key itself")
        address = not self.base_url or re.fullmatch(r"https?://[^/\s@]+(?:/\S*)?", self.base_url)
        require("base_url", bool(address), "begins with http:// or https:// and holds no password")

    @property
    def brief_limit(self) -> int:
        """How many tokens a brief may take: no more than a third of what goes in."""
        return min(self.brief_tokens, (self.context_tokens - self.max_tokens) // 3)


@dataclass(frozen=True)
class Price:
    """What a model's tokens cost, in dollars per million; `model` is a name or a pattern like `gpt-5*`. Cached input
    costs as much as other input where nothing else is said."""

    model: str
    dollars_in: float
    dollars_out: float
    dollars_cached: float | None = None

    def check(self) -> None:
        require("model", bool(self.model), "names a model")
        for name in ("dollars_in", "dollars_out", "dollars_cached"):
            require(name, (getattr(self, name) or 0.0) >= 0, "must not be negative")

    def dollars(self, tokens_in: int, tokens_cached: int, tokens_out: int) -> float:
        """What so many tokens cost; cached ones are among those that went in."""
        cached = min(tokens_cached, tokens_in)
        each = self.dollars_in if self.dollars_cached is None else self.dollars_cached
        return ((tokens_in - cached) * self.dollars_in + cached * each + tokens_out * self.dollars_out) / 1e6


@dataclass(frozen=True)
class Prices:
    """A file of prices alone."""

    prices: tuple[Price, ...] = ()

    def check(self) -> None:
        pass


def words(key: str, command: str) -> list[str]:
    """A command line's words. Wrong where it can't be split."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise Wrong(key, f"can't be split into words: {error}") from None
