"""What ships with the tool is found, in a checkout and in an installed wheel."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from gitresearch import share
from gitresearch.errors import GitResearchError

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
    assert done.stdout.split() == ["log", "status"]
