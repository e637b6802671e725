"""What a model's server sends, in one shape: compatible servers leave parts out, send null, or put them elsewhere."""

import json
import re
from dataclasses import dataclass
from typing import Any

MAX_CALLS = 16
_NAME = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True)
class Call:
    """A tool that the model wants to use. `arguments` is what it wrote: JSON, if it did it right."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Reply:
    """A model's answer; tokens as the server counted them. `refusal` is why it would not answer; `reasoning` is what
    some servers send beside the text, and want back where tools were called."""

    text: str
    finish_reason: str
    calls: tuple[Call, ...] = ()
    reasoning: str = ""
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    tokens_reasoning: int = 0
    seconds: float = 0.0
    request_id: str = ""
    refusal: str = ""


def get(value: Any, key: str | int) -> Any:
    """An item of a table or list, None where there is none."""
    if isinstance(key, str):
        return value.get(key) if isinstance(value, dict) else None
    return value[key] if isinstance(value, list) and len(value) > key else None


def text(value: Any) -> str:
    """A text that can be encoded; some servers send it in parts."""
    if isinstance(value, list):
        value = "".join(part["text"] for part in value if isinstance(get(part, "text"), str))
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def calls(found: Any) -> tuple[Call, ...]:
    """The tools that were called, in a shape that can be sent back: some servers leave the id out or give it twice, and
    send arguments as a table instead of as text."""
    kept: dict[str, Call] = {}
    for number, item in enumerate(found[:MAX_CALLS] if isinstance(found, list) else ()):
        function = get(item, "function")
        name, arguments, ident = get(function, "name"), get(function, "arguments"), get(item, "id")
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments if arguments is not None else {})
        if not isinstance(ident, str) or not re.fullmatch(r"[\w.:-]{1,64}", ident) or ident in kept:
            ident = f"call-{number}"
        known = _NAME.sub("-", name)[:64] if isinstance(name, str) else ""
        kept[ident] = Call(ident, known or "unnamed", text(arguments))
    return tuple(kept.values())


def words(body: Any) -> str:
    """What an error's body says: its message, wherever servers put it."""
    body = get(body, "error") or body
    said = get(body, "message") or get(body, "detail") or body
    return said if isinstance(said, str) else ""


def count(usage: Any, name: str) -> int:
    """A token count; servers leave some out or send null."""
    value = get(usage, name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
