"""Text that came from models, trials and logs is hostile: clean it before it is stored, quoted or shown.

What git or a terminal would choke on: NUL cuts a message in libgit2, C0/C1 controls drive the terminal (an OSC
sequence sets its title), bidirectional overrides make code read other than it runs (CVE-2021-42574).
"""

import re
import unicodedata

from gitresearch.errors import FormatError

MAX_MESSAGE_BYTES = 64 * 1024
# C0 without \t \n, DEL, C1, zero-width and bidirectional controls, line separators, lone surrogates, BOM.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_BEHIND_DIGIT = re.compile(rb"(?<=\d)\D")
# What a byte is of a token, in twelfths: a letter within a word a quarter, what seldom joins others more.
_KINDS = {b" abcdefghijklmnopqrstuvwxyz": 3, b"\n": 6, b"0123456789": 12, bytes(range(128, 256)): 12}
_TWELFTHS = bytes(next((cost for kind, cost in _KINDS.items() if byte in kind), 8) for byte in range(256))
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def is_safe(text: str) -> bool:
    """Whether git and a terminal take the text as it is."""
    return _UNSAFE.search(text) is None


def printable(text: str) -> str:
    """The text with every unsafe character written out as an escape (`\\x1b`), for showing what something held."""
    return _UNSAFE.sub(lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", text)


def clean(text: str, limit: int = MAX_MESSAGE_BYTES) -> str:
    """The text in NFC with escape sequences and unsafe characters taken out, at most `limit` bytes of UTF-8."""
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _UNSAFE.sub("", unicodedata.normalize("NFC", text))
    raw = text.encode("utf-8")
    return text if len(raw) <= limit else raw[:limit].decode("utf-8", "ignore")


def one_line(text: str, limit: int = 200) -> str:
    """Clean text on one line of at most `limit` characters, cut at a word with an ellipsis."""
    text = " ".join(clean(text).split())
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    head, _, tail = cut.rpartition(" ")
    return (head if head and len(tail) < limit // 3 else cut).rstrip(" ,;:.-") + "…"


def require_safe(text: str, what: str, limit: int = MAX_MESSAGE_BYTES) -> str:
    """The text itself, or FormatError where git or a terminal would choke on it."""
    found = _UNSAFE.search(text)
    if found:
        raise FormatError(f"{what} holds the control character U+{ord(found[0]):04X}")
    if len(text.encode("utf-8")) > limit:
        raise FormatError(f"{what} is longer than {limit} bytes")
    return text


def tokens(text: str) -> int:
    """About how many tokens a model takes the text for: no tokenizer is at hand for every model.

    Measured against SmolLM2's, which like Llama 2's takes a digit for a token: 1.10-1.19 of its count for prose and
    Python, 0.94-1.13 for logs, tables of numbers and object ids, 1.74 for Japanese. Less only for what no brief is made
    of (0.77 for base64)."""
    raw = text.encode("utf-8", "replace")
    behind = _BEHIND_DIGIT.findall(raw)  # each a token too: nothing else can be joined to it
    twelfths = sum(raw.translate(_TWELFTHS)) - sum(b"".join(behind).translate(_TWELFTHS))
    return len(behind) + -(-twelfths // 12)


def plural(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def slug(text: str, limit: int = 40) -> str:
    """Lower-case ASCII words joined by `-`, fit for a ref name; `trial` where nothing is left."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = re.findall(r"[a-z0-9]+", ascii_text.lower())
    out = ""
    for word in words:
        if len(out) + len(word) + 1 > limit:
            break
        out = f"{out}-{word}" if out else word
    return out or (words[0][:limit] if words else "trial")
