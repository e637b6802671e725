"""Which edit belongs to whom: a specialist's surface, enforced.

A surface is a list of patterns. `model.py` and `src/**/*.py` are path globs relative to the repository (`*` stays
within a folder, `**` crosses folders, `src/` is all below it); `train.py::Optimizer` or `train.py::LR` is one top-level
function, class or assignment, and `train.py::Model.forward` one method. An edit outside never becomes a trial:
`violations` compares the files before and after and says what left the surface. What a symbol pattern allows is exactly
the text of that symbol, with its decorators and a comment behind it; the rest of the file must stay byte for byte
(trailing blank lines aside), and the symbol itself can be neither made nor deleted.

Not covered: what a symbol's text does when it runs. `LR = change_everything()` is inside `train.py::LR`.
"""

import ast
import codecs
import io
import re
import threading
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

Edits = Mapping[str, bytes | None]  # path -> new bytes; None deletes the file

_QUIET = threading.Lock()  # the warnings filter is the whole process's
_Definition = tuple[str, ast.stmt]


@dataclass(frozen=True)
class Surface:
    """A compiled surface. `paths` are globs, `symbols` are (path glob, dotted name)."""

    paths: tuple[str, ...]
    symbols: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, patterns: Iterable[str]) -> "Surface":
        paths, symbols = [], []
        for pattern in patterns:
            path, colons, symbol = pattern.partition("::")
            if colons:
                symbols.append((path, symbol))
            else:
                paths.append(path)
        return cls(tuple(paths), tuple(symbols))

    def covers(self, path: str) -> bool:
        """Whether the whole file may be edited."""
        return any(glob_match(pattern, path) for pattern in self.paths)

    def symbols_in(self, path: str) -> tuple[str, ...]:
        """The dotted names that may be edited in a file that is not covered as a whole."""
        return tuple(symbol for pattern, symbol in self.symbols if glob_match(pattern, path))

    def touches(self, path: str) -> bool:
        """Whether anything in the file may be edited."""
        return self.covers(path) or bool(self.symbols_in(path))

    def undefined(self, files: Mapping[str, bytes]) -> list[str]:
        """The symbol patterns that nothing in the files answers to: nobody could ever edit them."""
        return [f"{glob}::{name}" for glob, name in self.symbols if not any(_defines(files, glob, name))]

    def spans(self, path: str, source: str) -> list[tuple[int, int]]:
        """The line ranges (from 1, end included) that may be edited; SyntaxError if the file doesn't parse."""
        if self.covers(path):
            return [(1, max(1, source.count("\n") + 1))]
        names = self.symbols_in(path)
        return sorted(symbol_spans(source, names)) if names else []

    def violations(self, before: Mapping[str, bytes], edits: Edits) -> list[str]:
        """Why the edits leave the surface, one sentence each; empty where they stay inside."""
        return [why for path, after in sorted(edits.items()) if (why := self._violation(path, before.get(path), after))]

    def _violation(self, path: str, before: bytes | None, after: bytes | None) -> str:
        if not safe_path(path):
            return f"{path!r} is no path that a trial may edit"
        if before == after or self.covers(path):
            return ""
        names = self.symbols_in(path)
        if not names:
            return f"{path} is outside the surface"
        if before is None or after is None:
            return f"{path} may not be {'made' if before is None else 'deleted'}: only {', '.join(names)} may be edited"
        try:
            if _without(before, names) == _without(after, names):
                return ""
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return f"{path} can't be compared: {error}"
        return f"{path} is changed outside {', '.join(names)}"


def safe_path(path: str) -> bool:
    """Whether a path stays below the repository's root and is no file that git itself obeys (`.git…`)."""
    parts = path.split("/")
    return path.isprintable() and not any(
        part in ("", ".", "..") or part.lower().startswith((".git", "git~")) or "\\" in part for part in parts
    )


def glob_match(pattern: str, path: str) -> bool:
    """Match a path against a glob: `*` and `?` within a folder, `**` across folders, a folder as a prefix."""
    if pattern.endswith("/") or pattern == ".":
        pattern = (pattern.rstrip("/") + "/**") if pattern != "." else "**"
    out = ""
    for token in re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", pattern):
        out += {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token) or re.escape(token)
    return re.fullmatch(out, path) is not None


def python_tree(source: str | bytes) -> ast.Module:
    """The syntax tree; an odd escape in a string is no reason to warn here. Raises what `ast.parse` raises."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _defines(files: Mapping[str, bytes], glob: str, name: str) -> Iterator[bool]:
    for path, data in files.items():
        if glob_match(glob, path):
            with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                yield any(definitions(python_tree(data), {name}))


def symbol_spans(source: str, names: Iterable[str]) -> list[tuple[int, int]]:
    """Line ranges of the named top-level functions, classes, assignments or methods in Python source."""
    wanted = set(names)
    found = definitions(python_tree(source), wanted)
    return [(first_line(node), node.end_lineno or node.lineno) for _, node in found]


def definitions(tree: ast.Module, wanted: set[str]) -> Iterator[_Definition]:
    """The statements that define a wanted name, outermost first. One that also assigns to another name is none."""
    for node in tree.body:
        names = bound_names(node)
        if names and wanted.issuperset(names):
            yield names[0], node
        elif isinstance(node, ast.ClassDef):
            yield from _methods(node, wanted)


def bound_names(node: ast.stmt) -> list[str]:
    """The names that a definition or assignment binds; an empty one for each target that is no plain name."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id if isinstance(target, ast.Name) else "" for target in targets]


def _methods(node: ast.ClassDef, wanted: set[str]) -> Iterator[_Definition]:
    for inner in node.body:
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)) and f"{node.name}.{inner.name}" in wanted:
            yield f"{node.name}.{inner.name}", inner


def first_line(node: ast.stmt) -> int:
    """The line it begins on, with its decorators."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _without(data: bytes, names: Iterable[str]) -> list[bytes]:
    """The file's lines with the text of the named symbols cut out and one mark left for each, so that they can't trade
    places. What shares a line with a symbol (`LR = 1; other()`) stays."""
    body = data.removeprefix(codecs.BOM_UTF8)
    if codecs.lookup(tokenize.detect_encoding(io.BytesIO(body).readline)[0]).name != "utf-8":
        raise ValueError("it declares an encoding other than UTF-8, which can hide code")
    if b"\r" in data.replace(b"\r\n", b"") or b"\0" in data:
        raise ValueError("it holds a lone carriage return or NUL, which shifts line numbers")
    lines = body.split(b"\n")
    for name, node in reversed(list(definitions(python_tree(body.decode("utf-8")), set(names)))):
        start, end = first_line(node), node.end_lineno or node.lineno
        head = lines[start - 1][: node.col_offset] if start == node.lineno else _decorator_head(lines[start - 1])
        tail = lines[end - 1][node.end_col_offset or 0 :]
        lines[start - 1 : end] = [head + b"::" + name.encode() + _uncommented(tail)]
    while lines and not lines[-1].strip():
        lines.pop()
    return [data[: len(data) - len(body)], *lines]


def _decorator_head(line: bytes) -> bytes:
    """The indent in front of a decorator's `@`."""
    return line[: len(line) - len(line.lstrip())]


def _uncommented(tail: bytes) -> bytes:
    """What follows a symbol on its last line, without a comment: that is the symbol's own."""
    end = b"\r" if tail.endswith(b"\r") else b""
    return end if not tail.strip() or tail.lstrip().startswith(b"#") else tail
