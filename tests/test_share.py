"""What ships with the tool is found, in a checkout and in an installed wheel."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gitresearch import share
from gitresearch.agents.offline.domain import Choice
from gitresearch.agents.offline.find import find
from gitresearch.agents.offline.levers import Lever
from gitresearch.errors import GitResearchError
from gitresearch.study import load
from gitresearch.surface import Surface

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up installation with two recipes, one without its hook."""
    package = tmp_path / "gitresearch"
    for name in ("parameter_golf", "cifar10_airbench"):
        folder = package / "share" / "recipes" / name
        folder.mkdir(parents=True)
        (folder / "study.toml").touch()
    (package / "share" / "recipes" / "notes").mkdir()
    (package / "share" / "evaluator_hooks" / "parameter_golf").mkdir(parents=True)
    monkeypatch.setattr(share, "_PACKAGE", package)
    return package / "share"


def test_recipes_are_the_folders_with_a_study(shipped: Path) -> None:
    """A folder without study.toml is no recipe."""
    assert list(share.recipes()) == ["cifar10_airbench", "parameter_golf"]


def test_a_recipe_is_named_by_one_of_its_words(shipped: Path) -> None:
    """`golf` is parameter_golf."""
    assert share.recipe("golf") == share.recipe("parameter_golf") == shipped / "recipes" / "parameter_golf"


def test_an_unknown_recipe_names_the_nearest(shipped: Path) -> None:
    """The hint is a command with a recipe that is there."""
    with pytest.raises(GitResearchError, match="no recipe 'parametergolf'") as caught:
        share.recipe("parametergolf")
    assert caught.value.hint == "gitresearch init --recipe parameter_golf"


def test_a_recipe_without_its_hook_is_an_error(shipped: Path) -> None:
    """A recipe can't be judged by nothing."""
    assert share.hook_of("golf").name == "parameter_golf"
    with pytest.raises(GitResearchError, match="without its evaluator hook"):
        share.hook_of("airbench")


def test_every_recipe_of_the_checkout_has_its_hook() -> None:
    """What `init --recipe` copies is complete."""
    for name in share.recipes():
        assert share.hook_of(name).is_dir()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it would be published."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=CHECKOUT,
                   check=True, capture_output=True)  # fmt: skip
    return next(out.glob("*.whl"))


def _tracked(*folders: str) -> list[str]:
    """The files that git tracks; a test in an unpacked archive can't tell."""
    done = subprocess.run(["git", "-C", str(CHECKOUT), "ls-files", "--", *folders], capture_output=True, text=True,
                          check=False)  # fmt: skip
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for path in done.stdout.splitlines() if (CHECKOUT / path).exists()]


@pytest.mark.slow
def test_the_wheel_holds_every_tracked_file(wheel: Path) -> None:
    """Code, prompts, recipes, hooks, man pages and completion are in the wheel; caches are not."""
    held = set(zipfile.ZipFile(wheel).namelist())
    data = f"{wheel.name.split('-py3')[0]}.data/data/"
    places = [(path, path) for path in _tracked("gitresearch")]
    places += [(path, f"gitresearch/share/{path}") for path in _tracked("recipes", "evaluator_hooks")]
    places += [(path, data + path) for path in _tracked("share")]
    assert [path for path, place in places if place not in held] == []
    assert [name for name in held if "__pycache__" in name or name.endswith(".pyc")] == []


@pytest.mark.slow
def test_an_installed_wheel_finds_its_recipes_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    """In another environment and directory, the program runs and lists the same recipes with their hooks."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(venv), "platbase": str(venv)}))
    pip = [sys.executable, "-m", "pip", "--python", str(venv), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    # The dependencies come from the environment the tests run in; a .pth there could add the checkout, this can't.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    ask = (
        "import json, gitresearch; from gitresearch import share;"
        "found = {n: [str(p), str(share.hook_of(n))] for n, p in share.recipes().items()};"
        "print(json.dumps([gitresearch.__file__, found]))"
    )

    def run(program: str, *args: str) -> str:
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        argv = [venv / "bin" / program, *args]
        return subprocess.run(argv, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True).stdout

    where, found = json.loads(run("python", "-c", ask))
    assert Path(where).is_relative_to(venv)
    assert sorted(found) == sorted(share.recipes())
    for name, (folder, hook) in found.items():
        assert Path(folder).is_relative_to(venv)
        assert Path(hook).is_relative_to(venv)
        assert (Path(folder) / "study.toml").read_bytes() == (share.recipes()[name] / "study.toml").read_bytes()
    assert "Commands:" in run("git-research", "--help")
    for page in ("gitresearch.1", "git-research.1"):
        assert (venv / "share" / "man" / "man1" / page).is_file()


@pytest.mark.slow
def test_git_research_completes_verbs(tmp_path: Path) -> None:
    """`git research lo<TAB>` gives log, through the function that git's own completion calls."""
    script = CHECKOUT / "share" / "bash-completion" / "completions" / "git-research"
    ask = f"""
        source '{script}'
        COMP_WORDS=(git -C . research lo) COMP_CWORD=4
        _git_research 2>/dev/null
        printf '%s\\n' "${{COMPREPLY[@]}}"
        COMP_WORDS=(gitresearch st) COMP_CWORD=1
        _gitresearch 2>/dev/null
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", ask], env=environ, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["log", "status", "stats"]


# Two scales of one recipe

PROGRAM = """\
# Ä comment before, so that bytes and characters differ.
WIDTH: Annotated[int, "8..64", "if USE_GPU"] = 16  # ü
HEADS: Annotated[Literal[1, 2], "if WIDTH"] = 2
USE_GPU: bool = False
BOTH, OTHER = 1, 2
TWICE = 1
TWICE = 2
"""


@pytest.fixture
def scaled(shipped: Path) -> Callable[[str], Path]:
    """A made-up recipe `golf` with knowledge and a full scale, whose table of constants is given."""
    folder = shipped / "recipes" / "parameter_golf"

    def make(table: str) -> Path:
        (folder / "full").mkdir(exist_ok=True)
        (folder / "knowledge").mkdir(exist_ok=True)
        (folder / "sub").mkdir(exist_ok=True)
        (folder / "study.toml").write_text("small")
        (folder / "full" / "study.toml").write_text("large")
        (folder / "full" / "constants.toml").write_text(table)
        (folder / "knowledge" / "rules.md").write_text("rules")
        (folder / "README.md").write_text("readme")
        (folder / "sub" / "model.py").write_text(PROGRAM, "utf-8")
        (shipped / "evaluator_hooks" / "parameter_golf" / "hook.py").write_text("hook")
        return folder

    return make


def test_the_small_scale_is_the_recipe_as_it_stands(scaled: Callable[[str], Path]) -> None:
    """Study, README and knowledge go to the top, the program and the hook to their folders; full/ stays behind."""
    folder = scaled('["sub/model.py"]\nWIDTH = "32"\n')
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").touch()

    assert share.files("golf") == {
        "study.toml": b"small",
        "knowledge/rules.md": b"rules",
        "README.md": b"readme",
        "recipes/parameter_golf/sub/model.py": PROGRAM.encode(),
        "evaluator_hooks/parameter_golf/hook.py": b"hook",
    }


def test_the_full_scale_has_other_constants_and_its_own_study(scaled: Callable[[str], Path]) -> None:
    """Values, and domains where the table gives one, are replaced where they stand; nothing else changes."""
    scaled(
        '["sub/model.py"]\n'
        'WIDTH = { value = "768", domain = "256..1024 step 64" }\n'
        'HEADS = { value = "6", domain = "6, 12" }\n'
        'USE_GPU = "True"\n'
    )
    made = share.files("golf", "full")
    program = made["recipes/parameter_golf/sub/model.py"].decode()

    assert made["study.toml"] == b"large"
    assert program.splitlines()[1:4] == [
        'WIDTH: Annotated[int, "256..1024 step 64", "if USE_GPU"] = 768  # ü',
        'HEADS: Annotated[Literal[6, 12], "if WIDTH"] = 6',
        "USE_GPU: bool = True",
    ]
    assert program.splitlines()[4:] == PROGRAM.splitlines()[4:]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('["none.py"]\nWIDTH = "1"', "there is no none.py"),
        ('["sub/model.py"]\nDEPTH = "1"', "sub/model.py has no constant DEPTH"),
        ('["sub/model.py"]\nBOTH = "1"', "no constant BOTH"),
        ('["sub/model.py"]\nTWICE = "1"', "no constant TWICE"),
        ('["sub/model.py"]\nWIDTH = "2 +"', "constants.toml"),
        ('["sub/model.py"]\nWIDTH = "DEPTH"', "constants.toml"),
        ('["sub/model.py"]\nUSE_GPU = { value = "True", domain = "1..2" }', "USE_GPU states no domain"),
        ("[", "constants.toml"),
    ],
)
def test_a_table_that_does_not_fit_its_program_is_an_error(
    scaled: Callable[[str], Path], table: str, told: str
) -> None:
    """A file or constant that is not there, and a value that is no literal, are said and nothing is written."""
    scaled(table)
    with pytest.raises(GitResearchError, match=re.escape(told)):
        share.files("golf", "full")


def test_a_recipe_of_one_scale_says_so(shipped: Path) -> None:
    """The hint is the scale that is there."""
    with pytest.raises(GitResearchError, match="no full scale") as caught:
        share.files("golf", "full")
    assert caught.value.hint == "gitresearch init --recipe parameter_golf"


@pytest.mark.parametrize("scale", share.SCALES)
@pytest.mark.parametrize("name", share.recipes())
def test_every_shipped_recipe_is_whole_at_each_of_its_scales(name: str, scale: str) -> None:
    """Its study and program parse, its surfaces and knowledge are there, and each lever lies in its stated domain."""
    if scale == "full" and not (share.recipe(name) / "full").is_dir():
        pytest.skip(f"{name} has one scale")
    made = share.files(name, scale)
    study = load(made["study.toml"].decode())
    program = {path: data for path, data in made.items() if path.startswith(f"{study.recipe.root}/")}
    levers = {path: find(path, data) for path, data in program.items() if path.endswith(".py")}

    assert study.evaluator.hook in made
    assert [path for path in study.knowledge if path not in made] == []
    for specialist in study.specialists:
        surface = Surface.of(specialist.surface)
        assert any(surface.touches(path) for path in program), specialist.name
        assert surface.undefined({path: data for path, data in program.items() if surface.symbols_in(path)}) == []
    small = share.files(name)
    for path, found in levers.items():
        assert [lever.name for lever in found] == [lever.name for lever in find(path, small[path])]
        outside = [f"{path}: {lever.name} = {lever.text}" for lever in found if not _inside(lever)]
        assert outside == []


def _inside(lever: Lever) -> bool:
    """Whether a lever's value is one of its domain."""
    if isinstance(lever.domain, Choice):
        return lever.value in lever.domain.options
    return not lever.domain.stated or 0 <= lever.domain.place(lever.value) <= 1
