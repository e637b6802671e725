"""Which edit belongs to whom: a specialist's surface, enforced.

A surface is a list of patterns. `model.py` and `src/**/*.py` are path globs relative to the repository (`*` stays
within a folder, `**` crosses folders); `train.py::Optimizer` or `train.py::LR` is one top-level function, class or
assignment, and `train.py::Model.forward` one method. An edit outside never becomes a trial: `violations` compares the
files before and after and says what left the surface. What a symbol pattern allows is exactly the text of that
symbol; the rest of the file must stay byte for byte (trailing blank lines aside).
"""

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Edits = Mapping[str, bytes | None]  # path -> new bytes; None deletes the file


@dataclass(frozen=True)
class Surface:
    """A compiled surface. `paths` are globs, `symbols` are (path glob, dotted name)."""

    paths: tuple[str, ...]
    symbols: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, patterns: Iterable[str]) -> "Surface":
        paths, symbols = [], []
        for pattern in patterns:
            path, _, symbol = pattern.partition("::")
            if symbol:
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

    def spans(self, path: str, source: str) -> list[tuple[int, int]]:
        """The line ranges (from 1, end included) that may be edited; SyntaxError if the file doesn't parse."""
        if self.covers(path):
            return [(1, max(1, source.count("\n") + 1))]
        return sorted(symbol_spans(source, self.symbols_in(path)))

    def violations(self, before: Mapping[str, bytes], edits: Edits) -> list[str]:
        """Why the edits leave the surface, one sentence each; empty where they stay inside."""
        return [why for path, after in sorted(edits.items()) if (why := self._violation(path, before.get(path), after))]

    def _violation(self, path: str, before: bytes | None, after: bytes | None) -> str:
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
        except (SyntaxError, ValueError) as error:
            return f"{path} can't be compared: {error}"
        return f"{path} is changed outside {', '.join(names)}"


def glob_match(pattern: str, path: str) -> bool:
    """Match a path against a glob: `*` and `?` within a folder, `**` across folders, a folder as a prefix."""
    if pattern.endswith("/") or pattern == ".":
        pattern = (pattern.rstrip("/") + "/**") if pattern != "." else "**"
    out = ""
    for token in re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", pattern):
        out += {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token) or re.escape(token)
    return re.fullmatch(out, path) is not None


def symbol_spans(source: str, names: Iterable[str]) -> list[tuple[int, int]]:
    """Line ranges of the named top-level functions, classes, assignments or methods in Python source."""
    tree = ast.parse(source)
    wanted = set(names)
    return [_span(node) for name, node in _definitions(tree) if name in wanted]


def _definitions(tree: ast.Module) -> Iterable[tuple[str, ast.stmt]]:
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
                        yield f"{node.name}.{inner.name}", inner
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node


def _span(node: ast.stmt) -> tuple[int, int]:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)]), node.end_lineno or node.lineno


def _without(data: bytes, names: Iterable[str]) -> list[str]:
    """The file's lines with the named symbols cut out and one mark left for each, so that they can't trade places."""
    source = data.decode("utf-8")
    tree = ast.parse(source)
    wanted = set(names)
    found = {_span(node): name for name, node in _definitions(tree) if name in wanted}
    lines = source.split("\n")
    for (start, end), name in sorted(found.items(), reverse=True):
        lines[start - 1 : end] = [f"::{name}"]
    while lines and not lines[-1].strip():
        lines.pop()
    return lines
