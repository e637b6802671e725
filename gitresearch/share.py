"""The recipes, evaluator hooks and git hooks that ship with the tool, wherever it is installed.

A checkout has them at its top; a wheel carries them inside the package. Nothing else depends on where they lie.
"""

import difflib
from pathlib import Path

from gitresearch.errors import GitResearchError

REINSTALL = "pip install --force-reinstall gitresearch"
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
