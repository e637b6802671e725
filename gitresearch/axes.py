"""The axes of a surface: the symbols and files that a specialist may change, and which of them an edit changed.

Pure. An axis is `path::Symbol` for each top-level function, class or assignment of a Python file (only those that the
surface names, where it names symbols), and the path itself for any other file.
"""

import ast
from collections.abc import Iterable, Mapping
from functools import lru_cache

from gitresearch.surface import Surface, python_tree, symbol_spans


def axes(files: Mapping[str, bytes], surface: Surface) -> dict[str, bytes]:
    """Every axis of the surface in these files, with its text."""
    found: dict[str, bytes] = {}
    for path in sorted(files):
        if surface.covers(path):
            found |= {f"{path}::{name}" if name else path: text for name, text in _symbols(path, files[path])}
        elif names := surface.symbols_in(path):
            found |= {f"{path}::{name}": text for name, text in _named(files[path], names)}
    return found


def changed(before: Mapping[str, bytes], after: Mapping[str, bytes], surface: Surface) -> set[str]:
    """The axes whose text differs; files that are the same are not looked into."""
    paths = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    old = axes({path: before[path] for path in paths if path in before}, surface)
    new = axes({path: after[path] for path in paths if path in after}, surface)
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


@lru_cache(maxsize=1024)
def _symbols(path: str, data: bytes) -> tuple[tuple[str, bytes], ...]:
    """A file's top-level symbols; the file as one axis where it is no Python, or has none."""
    try:
        tree = python_tree(data) if path.endswith(".py") else ast.Module([], [])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return (("", data),)
    lines = data.split(b"\n")
    found = []
    for node in tree.body:
        for name in _names(node):
            found.append((name, b"\n".join(lines[_first(node) - 1 : node.end_lineno])))
    return tuple(found) or (("", data),)


def _names(node: ast.stmt) -> Iterable[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _first(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


@lru_cache(maxsize=1024)
def _named(data: bytes, names: tuple[str, ...]) -> tuple[tuple[str, bytes], ...]:
    lines = data.split(b"\n")
    found = []
    for name in names:
        try:
            spans = symbol_spans(data.decode("utf-8"), [name])
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if spans:
            found.append((name, b"\n".join(b"\n".join(lines[start - 1 : end]) for start, end in spans)))
    return tuple(found)
