"""The shape of the code: layers, doors to outside libraries, and docs that say what is there."""

import ast
import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import tomli
import tomli_w

from gitresearch.asking import Agent, Session
from gitresearch.cli.main import VERBS, cli
from gitresearch.study import (
    Budget,
    Decision,
    Evaluator,
    Gate,
    Objective,
    Recipe,
    Seeds,
    Specialist,
    Study,
    StudyBudget,
    load,
)

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGE = CHECKOUT / "gitresearch"

# Each module imports only from those above it. A package stands for all its modules unless they are listed apart.
ORDER = [
    *(
        "errors",
        "text",
        "folders",
        "trial",
        "outcome",
        "tables",
        "signing",
        "asking",
        "study",
        "surface",
        "merge",
        "lineage",
        "timing",
        "noise",
        "looks",
        "drift",
        "curves",
        "holdout",
        "decision",
        "policy",
        "intoto",
        "gitcmd",
        "share",
    ),
    *(
        "repo",
        "pinned",
        "workdir",
        "sandbox",
        "machine",
        "accelerator",
        "handover",
        "failures",
        "forecast",
        "smoke",
        "cores",
        "hooks",
        "data",
        "reply",
        "model",
        "match",
        "answers",
        "edit",
        "axes",
        "agents",
        "brief",
    ),
    *("agents.desk", "agents.prompt", "agents.folder"),
    *("agents.patch", "agents.offline", "agents.openai", "agents.command"),
    *("stages", "evaluate", "spending", "briefing", "sameness", "propose", "serve"),
    *("witness", "books", "lab", "loop", "engines", "review", "moves", "sync", "audit", "guard", "cli"),
]

# Each verb is called by the loop or the command line, never by another verb.
WORKERS = {"propose", "evaluate", "review", "sync", "audit"}

# The one door of each outside library that is heavy, or that could be changed for another.
DOORS = {
    "pygit2": ("repo",),
    "cryptography": ("signing",),
    "openai": ("model",),
    "mcp": ("serve",),
    "click": ("cli",),
    "rich": ("cli",),
    "optuna": ("agents.offline",),
    "libcst": ("agents.offline",),
    "torch": (),
    "numpy": ("agents.offline",),
}
HEAVY = {"torch", "openai", "mcp", "pygit2", "optuna", "libcst", "rich", "numpy", "cryptography"}

# Programs that run in a process of their own end it themselves.
ENDS_ITS_PROCESS = ("sandbox",)


def _name(path: Path) -> str:
    """The module's name below gitresearch; empty for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@functools.cache
def _modules() -> dict[str, ast.AST]:
    """Every module by its name below gitresearch. Parsed once, and not by workers that run none of these tests."""
    return {_name(path): ast.parse(path.read_bytes()) for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def _imports(module: str) -> list[str]:
    """Every absolute name that a module imports, `from a import b` as a.b; imports inside functions too."""
    found = []
    for node in ast.walk(_modules()[module]):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def _own(module: str) -> set[str]:
    """The modules of ours that a module imports."""
    found = set()
    for full in _imports(module):
        if full.startswith("gitresearch."):
            name = full.removeprefix("gitresearch.")
            while name and name not in _modules():
                name = name.rpartition(".")[0]
            found.add(name)
    return found - {""}


def _layer(name: str) -> str:
    """The entry of ORDER that a module belongs to."""
    entry = name
    while entry and entry not in ORDER:
        entry = entry.rpartition(".")[0]
    return entry


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def test_every_module_has_its_place_in_the_order() -> None:
    """A new module is added to ORDER, where it can be seen what it stands on."""
    assert [name for name in _modules() if name and not _layer(name)] == []


def test_modules_import_only_from_those_above() -> None:
    """The order of the layers holds for every import, also for those inside functions."""
    wrong = [
        f"{name} imports {other}"
        for name in _modules()
        for other in _own(name)
        if ORDER.index(_layer(name)) < ORDER.index(_layer(other))
    ]
    assert wrong == []


def test_no_import_goes_round_in_a_circle() -> None:
    """Within a layer too, imports form no cycle."""
    below = {name: _own(name) - {name} for name in _modules()}
    while free := [name for name, others in below.items() if not others]:
        for name in free:
            del below[name]
        below = {name: others - set(free) for name, others in below.items()}
    assert below == {}


def test_verbs_do_not_import_each_other() -> None:
    """What works on git is put together by the loop and the command line only."""
    wrong = [
        f"{name} imports {other}"
        for name in _modules()
        for other in _own(name)
        if name.partition(".")[0] in WORKERS and other.partition(".")[0] in WORKERS - {name.partition(".")[0]}
    ]
    assert wrong == []


@pytest.mark.parametrize("library", DOORS)
def test_each_outside_library_has_one_door(library: str) -> None:
    """A library is imported behind its door and nowhere else."""
    users = [name for name in _modules() if any(_within(full, (library,)) for full in _imports(name))]
    assert [name for name in users if not _within(name, DOORS[library])] == []


def test_every_module_says_what_it_is() -> None:
    """Whoever reads the module docstrings in order understands the tool."""
    assert [name for name, tree in _modules().items() if not ast.get_docstring(tree)] == []


def test_only_the_command_line_prints_and_exits() -> None:
    """Below the command line an error is raised and a message is passed on."""
    wrong = []
    for name, tree in _modules().items():
        if _within(name, ("cli", *ENDS_ITS_PROCESS)):
            continue
        for node in ast.walk(tree):
            text = ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""
            if text in ("print", "exit", "quit", "sys.exit", "os._exit", "SystemExit", "sys.stdout"):
                wrong.append(f"{name}: {text}")
    assert wrong == []


def test_help_imports_nothing_heavy() -> None:
    """`gitresearch --help` pays for click and nothing else."""
    ask = "import sys; from gitresearch.cli.main import run; code = run(['--help']); print(code, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    code, *modules = done.stdout.splitlines()[-1].split()
    assert code == "0"
    assert HEAVY & set(modules) == set()


def _tracked() -> list[Path]:
    done = subprocess.run(["git", "-C", str(CHECKOUT), "ls-files"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.splitlines() if (path := CHECKOUT / name).is_file()]


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    """Neither this checkout's path nor a home directory stands in a file."""
    home = str(Path.home())
    places = [re.escape(str(CHECKOUT)) + r"\b", r"/(?:home|Users)/(?!user\b|you\b)[a-z]\w+/"]
    places += [re.escape(home) + r"/"] if len(home) > 4 else []
    wanted = re.compile("|".join(places))
    wrong = []
    for path in _tracked():
        text = path.read_bytes().decode("utf-8", "ignore")
        wrong += [f"{path.relative_to(CHECKOUT)}: {found[0]}" for found in wanted.finditer(text)]
    assert wrong == []


def _shown(path: Path) -> str:
    """What a page shows as code: in Markdown the code blocks and spans, elsewhere every line."""
    text = path.read_text("utf-8").replace("\\-", "-").replace("\\\n", " ")
    if path.suffix != ".md":
        return text
    blocks = re.findall(r"(?ms)^```[^\n]*\n(.*?)^```", text)
    blocks += re.findall(r"(?m)^ {4}(\S.*)$", text)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", text))])


def _commands_in(path: Path) -> Iterator[list[str]]:
    """The words after `gitresearch` in every line of a page that calls it."""
    for line in _shown(path).splitlines():
        call = r"\s*(?:\$ )?(?:\$\(BIN\)/|\.venv/bin/)?(?:gitresearch|git research) ([^|#&;>]*)"
        if match := re.match(call, line):
            yield shlex.split(match[1])


def _pages() -> list[Path]:
    return [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", CHECKOUT / "Makefile",
            CHECKOUT / "share/man/man1/gitresearch.1", *(CHECKOUT / "docs").rglob("*.md")]  # fmt: skip


def _wrong_with(words: list[str]) -> str:
    """What a command line names that is not there; empty where all of it is."""
    context = click.Context(cli, info_name="gitresearch")
    while words and words[0].startswith("-"):
        takes = next((p for p in cli.params if words[0] in p.opts), None)
        if takes is None:
            return "" if words[0] in ("--help", "-h") else words[0]
        words = words[1:] if isinstance(takes, click.Option) and takes.is_flag else words[2:]
    if not words or words[0].isupper():
        return ""
    if words[0] not in VERBS:
        return words[0]
    command = cli.get_command(context, words[0])
    assert command is not None
    if isinstance(command, click.Group) and words[1:] and words[1] != "[OPTIONS]":
        part = command.get_command(context, words[1])
        if part is None:
            return words[1]
        command = part
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    flags = {word.partition("=")[0] for word in words[1:] if word.startswith("--")}
    return " ".join(sorted(flags - known - {"--help"}))


@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.name)
def test_command_lines_in_the_docs_exist(page: Path) -> None:
    """Every `gitresearch …` line that a page shows names a command and flags that are there."""
    if not page.exists():
        pytest.skip(f"no {page.name} yet")
    wrong = {" ".join(words): found for words in _commands_in(page) if (found := _wrong_with(words))}
    assert wrong == {}


def test_commands_that_hints_tell_to_type_exist() -> None:
    """A hint such as `gitresearch run` names a command that is there."""
    wrong = []
    for name, tree in _modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                match = re.match(r"gitresearch ([a-z]+)", node.value)
                if match and match[1] not in VERBS:
                    wrong.append(f"{name}: {node.value}")
    assert wrong == []


def test_the_man_page_names_every_command() -> None:
    """`git research --help` leaves no command out and makes none up."""
    text = (CHECKOUT / "share/man/man1/gitresearch.1").read_text("utf-8")
    named = re.findall(r"^\.B(?:R|) ([a-z].*)$", text.partition(".SH COMMANDS")[2].partition(".SH")[0], re.MULTILINE)
    assert sorted(re.findall(r"[a-z]+", " ".join(named))) == sorted(VERBS)


def test_the_page_of_commands_is_up_to_date() -> None:
    """docs/commands.md is what `make docs` writes."""
    script = CHECKOUT / "docs" / "make_commands.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_settings_of_agents_are_as_their_page_says() -> None:
    """Every table that docs/agents.md shows is read, and every setting of an agent stands there."""
    text = (CHECKOUT / "docs" / "agents.md").read_text("utf-8")
    shown = text.partition("```toml\n")[2].partition("```")[0]
    rest = """
name = "s"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[evaluator]
pattern = "loss: (.*)"
[[specialists]]
name = "one"
surface = ["train.py"]
"""
    study = load(f"{rest}\n{shown}")
    assert study.prices[0].dollars_cached == 0.125
    for name in (*Agent.__dataclass_fields__, *Session.__dataclass_fields__):
        assert f"{name} = " in shown or name == "session"


def test_the_page_of_study_toml_has_every_key_with_its_default() -> None:
    """Each key that is read stands in docs/study.md, and what is left out counts as the page says."""
    shown = (CHECKOUT / "docs" / "study.md").read_text("utf-8").partition("```toml\n")[2].partition("```")[0]
    asked = {match[1] for match in re.finditer(r"^(\w+) = .*\(asked for\)", shown, re.MULTILINE)}
    table: dict[str, Any] = tomli.loads(shown)
    alone = {"agent", "prices"}  # on docs/agents.md
    for cls, told in (
        (Study, table),
        *((cls, table[name]) for name, cls in (
            ("recipe", Recipe), ("objective", Objective), ("budget", Budget), ("study_budget", StudyBudget),
            ("seeds", Seeds), ("decision", Decision), ("evaluator", Evaluator),
        )),
        (Gate, table["gates"][0] | {"at_most": None}),
        (Specialist, table["specialists"][0]),
    ):  # fmt: skip
        for item in fields(cls):
            assert item.name in told or item.name in alone, f"{cls.__name__}.{item.name}"
            value = told.get(item.name)
            if item.name not in asked and not isinstance(value, (dict, list)) and item.name not in alone:
                assert value == item.default, item.name
    table["evaluator"] |= {"pattern": "(x)"}
    table["objective"]["metric"] = table["gates"][0]["metric"]
    load(tomli_w.dumps(table))
