"""The axes of a surface: the symbols and files that a specialist may change, and which of them an edit changed.

Pure. An axis is `path::Symbol` for each top-level function, class or assignment of a Python file (only those that the
surface names, where it names symbols), and the path itself for any other file.
"""

from collections.abc import Mapping
from functools import lru_cache

from gitresearch.surface import Surface, bound_names, definitions, first_line, python_tree


def axes(files: Mapping[str, bytes], surface: Surface) -> dict[str, bytes]:
    """Every axis of the surface in these files, with its text."""
    found: dict[str, bytes] = {}
    for path in sorted(files):
        if surface.covers(path):
            symbols = _symbols(files[path], ()) if path.endswith(".py") else {}
            found |= {f"{path}::{name}": text for name, text in symbols.items()} or {path: files[path]}
        elif names := surface.symbols_in(path):
            found |= {f"{path}::{name}": text for name, text in _symbols(files[path], names).items()}
    return found


def changed(before: Mapping[str, bytes], after: Mapping[str, bytes], surface: Surface) -> set[str]:
    """The axes whose text differs; files that are the same are not looked into."""
    paths = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    old = axes({path: before[path] for path in paths if path in before}, surface)
    new = axes({path: after[path] for path in paths if path in after}, surface)
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


@lru_cache(maxsize=1024)
def _symbols(data: bytes, wanted: tuple[str, ...]) -> Mapping[str, bytes]:
    """The text of the wanted symbols, or of every top-level one; none where the file is no Python."""
    try:
        tree = python_tree(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    every = ((name, node) for node in tree.body for name in bound_names(node) if name)
    lines = data.split(b"\n")
    found: dict[str, bytes] = {}
    for name, node in definitions(tree, set(wanted)) if wanted else every:
        found[name] = found.get(name, b"") + b"\n".join(lines[first_line(node) - 1 : node.end_lineno])
    return found
