"""`gitresearch init`: a study in a repository of one's own, or a new repository from a shipped recipe.

It asks nothing it can find out, and every question has a flag: the script that trains, the metric it prints, the
direction that is better. What it guessed it says, and study.toml holds it in plain words to edit.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from gitresearch.cli.context import say
from gitresearch.errors import GitResearchError
from gitresearch.gitcmd import Git
from gitresearch.machine import has_accelerator
from gitresearch.repo import Repo
from gitresearch.share import SCALES, files
from gitresearch.study import SIGNERS_FILE, STUDY_FILE, load
from gitresearch.text import slug

# Metrics where more is better; anything else is taken for a loss.
RISING = re.compile(r"acc|accuracy|reward|score|f1|auc|bleu|core|map|iou|r2", re.IGNORECASE)
# What training scripts print: `val_loss: 1.23`, `val_bpb=1.07`, in a string or an f-string.
PRINTED = re.compile(
    r"""\b((?:val|valid|validation|test|eval|final)[ _/-]?\w*|(?:\w+ )?score|loss|accuracy|acc|bpb)\s*[:=]\s*["%{]"""
)
LITERAL = re.compile(r"""print\(.*?\b([A-Za-z]\w*)\s*[:=]\s*-?\d""")  # print("val_loss: 0.5")
NUMBER = r"([-+]?(?:\d*\.?\d+(?:[eE][-+]?\d+)?|(?i:nan|inf)))"  # nan too: an earlier value must not stand in for it
SCRIPTS = ("train.py", "main.py", "run.py", "experiment.py")

TEMPLATE = """\
# The question. A study keeps to this file as its base commit holds it; to ask another, change the name.
name = "{name}"
question = "Which change to {script} gives the {adjective} {metric}?"

[recipe]
root = "{root}"                # the folder a trial sees and runs in
train = "{train}"

[objective]
metric = "{metric}"
direction = "{direction}"           # min or max

[budget]                       # limits of one run; the clock is the parent's
clock = "{clock}"                  # cpu: CPU seconds, for shared cores; wall: an accelerator held alone
train_seconds = {train_seconds:g}
memory_mb = 8000

[study_budget]                 # when `gitresearch run` stops by itself; 0 is no limit
trials = 20

[seeds]                        # GITRESEARCH_SEED tells the recipe its seed; the evaluator draws it
baseline = 5
screen = 1
head = 2
confirm = 5

[evaluator]
{evaluator}

[agent]
kind = "offline"               # or openai (any compatible server), or command (a coding agent)

[[specialists]]
name = "generalist"
role = "Improve {metric} by any change to the training program."
surface = [{surface}]          # path globs, or file.py::Symbol
"""

SELF_REPORTED = """\
# The metric is what the recipe prints (the last match counts); outcomes say trust = "self-reported".
# A hook of your own scores on hidden labels instead: hook = "evaluator_hooks/mine.py", see docs/architecture.md.
pattern = '''{pattern}'''"""


@dataclass(frozen=True)
class Answers:
    """What init was told or found out about a script of one's own."""

    train: str
    script: str
    metric: str
    direction: str
    pattern: str
    hook: str


@click.command(short_help="Make a study: in this repository, or a new one from a shipped recipe.")
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option("--recipe", "recipe_name", metavar="NAME", help="A shipped recipe, such as golf.")
@click.option(
    "--scale", type=click.Choice(SCALES), help="The recipe for one CPU core, or by the real rules. [default: mini]"
)
@click.option("--name", metavar="NAME", help="The study's name. [default: the recipe's, or the folder's]")
@click.option("--train", metavar="COMMAND", help="What trains. [default: python train.py, or the one script]")
@click.option("--metric", metavar="NAME", help="The metric. [default: what the script prints]")
@click.option("--direction", type=click.Choice(["min", "max"]), help="Which is better. [default: by the metric's name]")
@click.option("--pattern", metavar="REGEX", help="Where the script prints it. [default: 'METRIC: number']")
@click.option("--hook", metavar="FILE", help="A trusted program that scores, instead of what the script prints.")
@click.option("--train-seconds", type=float, default=600.0, show_default=True, help="Budget of one run.")
@click.option("--no-commit", is_flag=True, help="Leave the new files uncommitted.")
def init(directory: Path | None, recipe_name: str | None, scale: str | None, no_commit: bool, **told: str) -> None:
    """Make a study: in this repository, or a new one from a shipped recipe.

    DIRECTORY is made, with a repository of its own, if it is not there.
    """
    if scale and not recipe_name:
        raise click.UsageError("--scale goes with --recipe")
    base, _ = click.get_current_context().obj
    top = _top(base / directory if directory else base, own=directory is not None)
    if (top / STUDY_FILE).exists():
        raise GitResearchError(f"{top / STUDY_FILE} is already there", f"gitresearch -C {top} status")
    if recipe_name:
        name, paths = _from_recipe(top, files(recipe_name, scale or "mini"), told["name"])
    else:
        name, paths = _from_script(top, told)
    _list_signer(top)
    paths.append(SIGNERS_FILE)
    if no_commit:
        say(f"wrote {', '.join(paths)}; commit them, then: gitresearch run")
    else:
        _commit(top, paths, f"begin study {name}")
        where = f" -C {directory}" if directory else ""
        say(f"study {name} is ready in {top}; edit {STUDY_FILE} if you like, then: gitresearch{where} run --trials 20")


def _list_signer(top: Path) -> None:
    """Let the study take what this clone measures: its key is made, and its line stands in the file of signers."""
    path, line = top / SIGNERS_FILE, Repo.open(top).signer_line()
    before = path.read_text("utf-8", "replace") if path.exists() else ""
    if line not in before.split("\n"):
        path.write_text(f"{before.rstrip()}\n{line}\n".lstrip(), "utf-8")


def _top(where: Path, *, own: bool) -> Path:
    """The repository's top folder; made, with a repository, where there is none."""
    inside = _git(where, "rev-parse", "--show-toplevel") if where.is_dir() else None
    if inside and (not own or Path(inside).samefile(where)):
        return Path(inside)
    if where.is_dir() and own and any(where.iterdir()):
        raise GitResearchError(f"{where} is not empty and no repository", f"git init {where}, or choose another folder")
    if where.is_dir() and not own and _git(where, "rev-parse", "--is-bare-repository") == "true":
        raise GitResearchError("a study is made in a checkout, and this repository is bare", "git clone it first")
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GitResearchError(f"can't make {where}: {error.strerror}", "choose another folder") from None
    made = Git(None, where).ask("init", "-q", "-b", "main")
    if made.code:
        raise GitResearchError(f"git init failed: {made.complaint}", f"git init {where}")
    say(f"made a repository in {where}")
    return where


def _git(where: Path, *args: str) -> str | None:
    said = Git(None, where).ask(*args)
    return said.out.strip() if said.code == 0 else None


def _from_recipe(top: Path, made: dict[str, bytes], study_name: str | None) -> tuple[str, list[str]]:
    """Write a shipped recipe, its hook and its study.toml."""
    text = made[STUDY_FILE].decode()
    if study_name:
        text = re.sub(r'(?m)^name = "[^"]*"', f'name = "{study_name}"', text, count=1)
    study = load(text)
    made = {**made, STUDY_FILE: text.encode()}
    targets = sorted({"/".join(path.split("/")[:2]) for path in made})
    for target in targets:
        if (top / target).exists():
            raise GitResearchError(f"{top / target} is already there", "choose another folder")
    for path, data in made.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(data)
    return study.name, targets


def _from_script(top: Path, told: dict[str, str]) -> tuple[str, list[str]]:
    """A study over a script that is already there."""
    found = _find_out(top, told)
    name = told["name"] or slug(top.resolve().name)
    evaluator = f'hook = "{found.hook}"' if found.hook else SELF_REPORTED.format(pattern=found.pattern)
    text = TEMPLATE.format(
        name=name, script=found.script, adjective="lowest" if found.direction == "min" else "highest", root=".",
        metric=found.metric, train=found.train.replace('"', '\\"'), direction=found.direction, evaluator=evaluator,
        surface=f'"{found.script}"', clock="wall" if has_accelerator() else "cpu",
        train_seconds=float(told["train_seconds"]),
    )  # fmt: skip
    load(text)
    (top / STUDY_FILE).write_text(text, "utf-8")
    if _git(top, "rev-parse", "--verify", "-q", "HEAD") is None or _git(top, "ls-files", "--", found.script) == "":
        return name, [STUDY_FILE, found.script]
    return name, [STUDY_FILE]


def _find_out(top: Path, told: dict[str, str]) -> Answers:
    train = told["train"] or _guess_train(top)
    words = train.split()
    script = next((word for word in words if (top / word).is_file()), "")
    if not script:
        raise GitResearchError(f"no file of {train!r} is in {top}", "gitresearch init --train 'python FILE'")
    metric = told["metric"] or _guess_metric(top / script)
    direction = told["direction"] or ("max" if RISING.search(metric) else "min")
    pattern = told["pattern"] or rf"{re.escape(metric)}\s*[:=]\s*{NUMBER}"
    say(f"train with {train!r}; {'minimise' if direction == 'min' else 'maximise'} {metric}")
    return Answers(train, script, re.sub(r"[^A-Za-z0-9_./-]", "_", metric), direction, pattern, told["hook"] or "")


def _guess_train(top: Path) -> str:
    for script in SCRIPTS:
        if (top / script).is_file():
            return f"python {script}"
    if len(found := list(top.glob("*.py"))) == 1:
        return f"python {found[0].name}"
    return _ask("the command that trains", "--train 'python FILE'")


def _guess_metric(script: Path) -> str:
    """The last thing the script prints that looks like a result; validation before training."""
    text = script.read_text("utf-8", "replace")
    names = [match[1].strip() for match in (*LITERAL.finditer(text), *PRINTED.finditer(text))]
    ranked = [name for name in names if re.match(r"val|valid|test|eval|final", name)] or names
    return ranked[-1] if ranked else _ask("the metric that the script prints", "--metric NAME")


def _ask(what: str, flag: str) -> str:
    if not sys.stdin.isatty():
        raise GitResearchError(f"can't find out {what}", f"gitresearch init {flag}")
    return str(click.prompt(what[0].upper() + what[1:], err=True))


def _commit(top: Path, paths: list[str], message: str) -> None:
    """Commit just these new files; what else is staged or changed stays as it is."""
    identity = []
    if not _git(top, "config", "user.email"):
        identity = ["-c", "user.name=gitresearch", "-c", "user.email=gitresearch@localhost"]
    for args in (["add", "--", *paths], [*identity, "commit", "-q", "-m", message, "--only", "--", *paths]):
        said = Git(None, top).ask(*args)
        if said.code:
            told = said.err.strip() or said.out.strip()
            raise GitResearchError(f"git could not commit the study: {told}", f"git -C {top} commit")
