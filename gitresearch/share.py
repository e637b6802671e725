"""The recipes, evaluator hooks and git hooks that ship with the tool, wherever it is installed.

A checkout has them at its top; a wheel carries them inside the package. Nothing else depends on where they lie.

A recipe is one program in two sizes. The constants that stand in it are the small size's (`mini`); its folder `full/`
holds a study.toml of its own and `constants.toml`, which says the values of the large size, by file and name.
"""

import ast
import difflib
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import tomli

from gitresearch.errors import GitResearchError
from gitresearch.study import STUDY_FILE

REINSTALL = "pip install --force-reinstall gitresearch"
SCALES = ("mini", "full")
_PACKAGE = Path(__file__).resolve().parent


def root() -> Path:
    """The folder that holds `recipes/`, `evaluator_hooks/` and `.githooks/`: inside an installed package, else the
    checkout's top."""
    installed = _PACKAGE / "share"
    return installed if installed.is_dir() else _PACKAGE.parent


def git_hooks() -> Path:
    """The folder of the hooks that guard a repository, by the names that git calls them by."""
    return root() / ".githooks"


def recipes() -> dict[str, Path]:
    """Every shipped recipe's folder, by name."""
    return {found.parent.name: found.parent for found in sorted((root() / "recipes").glob("*/study.toml"))}


def recipe(name: str) -> Path:
    """The folder of the recipe a person means: its name, or one word of it (`golf` is `parameter_golf`)."""
    known = recipes()
    if name in known:
        return known[name]
    meant = [full for full in known if name in full.split("_")]
    if len(meant) == 1:
        return known[meant[0]]
    if not known:
        raise GitResearchError("this installation carries no recipes", REINSTALL)
    near = meant or difflib.get_close_matches(name, known, 3, 0.4) or list(known)
    raise GitResearchError(f"there is no recipe {name!r}", f"gitresearch init --recipe {' | '.join(near)}")


def hook_of(name: str) -> Path:
    """The folder of the evaluator hook that belongs to a recipe."""
    folder = root() / "evaluator_hooks" / recipe(name).name
    if not folder.is_dir():
        raise GitResearchError(f"the recipe {folder.name} ships without its evaluator hook", REINSTALL)
    return folder


def files(name: str, scale: str = "mini") -> dict[str, bytes]:
    """What a new study of a recipe is made of, by path: study.toml, README.md and knowledge/ at the top, the program
    under recipes/, its hook under evaluator_hooks/. What is read and not run stands outside the program's folder: a
    trial carries all that lies there, and its bytes count."""
    folder, full = recipe(name), recipe(name) / "full"
    if scale == "full" and not full.is_dir():
        hint = f"gitresearch init --recipe {folder.name}"
        raise GitResearchError(f"the recipe {folder.name} has no full scale", hint)
    made = {f"evaluator_hooks/{folder.name}/{path}": data for path, data in _tree(hook_of(name)).items()}
    for path, data in _tree(folder).items():
        top = path.partition("/")[0]
        if top not in (STUDY_FILE, "full"):
            made[path if top in ("knowledge", "README.md") else f"recipes/{folder.name}/{path}"] = data
    made[STUDY_FILE] = ((full if scale == "full" else folder) / STUDY_FILE).read_bytes()
    if scale == "full":
        _enlarge(made, f"recipes/{folder.name}", full / "constants.toml")
    return made


def _tree(folder: Path) -> dict[str, bytes]:
    """A folder's files by relative path, without what Python caches."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _enlarge(made: dict[str, bytes], root: str, table: Path) -> None:
    """Write the values that a table of constants gives into the files of a program."""
    try:
        wanted = tomli.loads(table.read_text("utf-8"))
        for file, constants in wanted.items():
            path = f"{root}/{file}"
            if path not in made:
                raise ValueError(f"there is no {file}")
            made[path] = _with_constants(made[path], constants, file)
    except (OSError, ValueError, SyntaxError) as error:  # no TOML is a ValueError too
        raise GitResearchError(f"{table.parent.parent.name}/full/constants.toml: {error}", REINSTALL) from None


def _with_constants(source: bytes, constants: Mapping[str, Any], file: str) -> bytes:
    """A program's text with other values for constants at its top level. A value is the text of a literal; with
    `{value = …, domain = …}` the domain too, as it stands between the quotes of Annotated or the brackets of Literal.
    ValueError where a constant is not there, or bound more than once."""
    statements, edits = _assignments(ast.parse(source)), []
    for name, told in constants.items():
        wanted = told if isinstance(told, dict) else {"value": told}
        if len(found := statements.get(name, [])) != 1 or (value := found[0].value) is None:
            raise ValueError(f"{file} has no constant {name} that is set once")
        ast.literal_eval(wanted["value"])
        edits.append((value, wanted["value"]))
        if "domain" in wanted:
            edits.append(_domain(found[0], wanted["domain"], f"{file}: {name}"))
    starts = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]
    for node, text in sorted(edits, key=lambda edit: (edit[0].lineno, edit[0].col_offset), reverse=True):
        start = starts[node.lineno - 1] + node.col_offset
        stop = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        source = source[:start] + text.encode() + source[stop:]
    ast.parse(source)
    return source


def _assignments(tree: ast.Module) -> dict[str, list[ast.Assign | ast.AnnAssign]]:
    """The top level's assignments to a plain name, by name."""
    found: dict[str, list[ast.Assign | ast.AnnAssign]] = {}
    for line in tree.body:
        for target in line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]:
            if isinstance(line, ast.Assign | ast.AnnAssign) and isinstance(target, ast.Name):
                found.setdefault(target.id, []).append(line)
    return found


def _domain(line: ast.Assign | ast.AnnAssign, text: str, where: str) -> tuple[ast.expr, str]:
    """The expression that holds a constant's domain, and what is to stand there."""
    annotation = line.annotation if isinstance(line, ast.AnnAssign) else None
    kind = ast.unparse(annotation.value) if isinstance(annotation, ast.Subscript) else ""
    if isinstance(annotation, ast.Subscript) and kind == "Literal":
        return annotation.slice, text
    if isinstance(annotation, ast.Subscript) and kind == "Annotated" and isinstance(annotation.slice, ast.Tuple):
        inner, *told = annotation.slice.elts
        if isinstance(inner, ast.Subscript) and ast.unparse(inner.value) == "Literal":
            return inner.slice, text
        ranges = [one for one in told if isinstance(one, ast.Constant) and ".." in str(one.value)]
        if ranges:
            return ranges[0], f'"{text}"'
    raise ValueError(f"{where} states no domain")
