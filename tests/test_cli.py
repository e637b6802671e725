"""The command line as a person meets it: exit codes, help, bad input said in one sentence, and ^C."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from gitresearch import machine
from gitresearch.cli import main as entry
from gitresearch.cli.main import VERBS, cli, run
from gitresearch.repo import Repo
from gitresearch.repo.identity import key_file
from gitresearch.sandbox import launcher
from gitresearch.sandbox.world import Interpreter
from gitresearch.study import Budget
from tests.build import STUDY, add_trial, git, outcome, plain_repo, record
from tests.fake_server import Scripted, fails, serving
from tests.processes import gone

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = [sys.executable, "-c", "from gitresearch.cli.main import main; main()"]
TRAIN = """\
LR = 0.1
WIDTH = 8
print(f"val_loss: {(LR - 0.3) ** 2 + 1 / WIDTH:.6f}")
"""
TOML = """\
name = "demo"
question = "Which change gives the lowest loss?"

[recipe]
train = "python train.py"

[objective]
metric = "val_loss"

[budget]
train_seconds = 20

[seeds]
baseline = 2
head = 1
confirm = 2

[evaluator]
pattern = '''val_loss: (\\S+)'''

[[specialists]]
name = "one"
surface = ["train.py"]
"""


@dataclass
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command as a function."""

    def go(*args: object) -> Said:
        capsys.readouterr()
        code = run([str(arg) for arg in args])
        told = capsys.readouterr()
        return Said(code, told.out, told.err)

    return go


def allowed() -> list[str]:
    return [] if shutil.which("bwrap") else ["--allow-unsandboxed"]


def study(top: Path, files: Mapping[str, str] | None = None, toml: str = TOML) -> Path:
    """A checkout with a recipe and a committed study.toml, not begun."""
    content = {"train.py": TRAIN, "study.toml": toml} | dict(files or {})
    return plain_repo(top, {name: text.encode() for name, text in content.items()})


def begun(top: Path, toml: str = TOML) -> Repo:
    """The same with its base pinned and a baseline with an outcome."""
    repo = Repo.open(study(top, toml=toml), durable=False)
    repo.pin_study(STUDY, repo.head_commit())
    record(repo, repo.make_baseline(STUDY, repo.head_commit()), 1.0, "baseline", n=2, sd=0.01)
    return repo


def begin_runs(call: Cli, top: Path, *more: str) -> Said:
    return call("-C", top, "run", "--trials", "0", *allowed(), *more)


def refused(said: Said, *words: str, hint: str = "") -> None:
    """Exit 1, nothing on stdout, one sentence and one hint on stderr, no traceback."""
    lines = said.err.rstrip("\n").split("\n")
    assert said.code == 1, said
    assert said.out == ""
    assert "Traceback" not in said.err
    assert lines[-2].startswith("gitresearch: "), said.err
    assert lines[-1].startswith("  try: "), said.err
    assert len(lines[-2]) < 400
    for word in words:
        assert word in lines[-2]
    assert hint in lines[-1]


# Help, usage, exit codes


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(call: Cli, verb: str) -> None:
    """`--help` says how it is used, says what `gitresearch --help` says of it first, and exits 0."""
    said = call(verb, "--help")

    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"Usage: gitresearch {verb}")
    assert "--help" in said.out
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    assert command.short_help == VERBS[verb][1]


def test_help_lists_every_verb(call: Cli) -> None:
    """The list of verbs needs none of their modules."""
    said = call("--help")

    assert said.code == 0
    told = " ".join(said.out.split())
    assert all(f"{verb} {short}" in told for verb, (_, short) in VERBS.items())


def test_version(call: Cli) -> None:
    """The version stands alone on stdout."""
    assert call("--version").out.startswith("gitresearch 0.")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["lgo"], "did you mean log?"),
        (["sttus"], "did you mean status?"),
        (["frobnicate"], "no command 'frobnicate'"),
        (["log", "--jsn"], "No such option"),
        (["log", "-n", "zero"], "zero"),
        (["log", "-n", "0"], "0"),
        (["show"], "TRIAL"),
        (["run", "--trials", "-1"], "-1"),
        (["run", "--jobs", "0"], "0"),
        (["run", "--agent", "openia"], "openia"),
    ],
)
def test_wrong_usage_exits_2(call: Cli, args: list[str], told: str) -> None:
    """A mistyped verb or option is named, with the nearest where there is one."""
    said = call(*args)

    assert said.code == 2
    assert told in said.err
    assert said.out == ""


def test_a_bug_of_ours_exits_3(call: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody expected becomes one sentence and a report to send; no traceback on the screen."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(entry.cli, "get_command", lambda *_: 1 / 0)

    said = call("log")

    assert said.code == 3
    assert "this is a bug of ours: ZeroDivisionError" in said.err
    assert "Traceback" not in said.err
    report = next((tmp_path / "state/gitresearch").iterdir())
    assert str(report) in said.err
    assert "Traceback" in report.read_text()


def test_a_report_that_cannot_be_saved(call: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the report has nowhere to go it is shown."""
    (tmp_path / "state").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(entry.cli, "get_command", lambda *_: 1 / 0)

    said = call("log")

    assert said.code == 3
    assert "the lines above" in said.err


def test_interrupted_exits_130(call: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """^C is no error: one word, exit code 130."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry.cli, "get_command", interrupted)

    said = call("log")

    assert (said.code, said.err.strip()) == (130, "gitresearch: stopped")


@pytest.mark.slow
def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """`gitresearch log | head -1` ends quietly."""
    repo = begun(tmp_path / "s")
    for number in range(400):
        add_trial(repo, f"try number {number} of a long list of trials", edits={"train.py": f"LR={number}".encode()})
    process = subprocess.Popen(
        [*PROGRAM, "-C", str(tmp_path / "s"), "log"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()

    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


def test_completion(call: Cli) -> None:
    """The scripts are for the shell that was named."""
    assert "complete" in call("completion", "bash").out
    assert call("completion", "tcsh").code == 2


# Looking


def test_json_shapes(call: Cli, tmp_path: Path) -> None:
    """What `--json` prints is one JSON document with the fields that scripts stand on."""
    repo = begun(tmp_path / "s")
    trial = add_trial(repo, "raise the rate", expected=-0.1)
    record(repo, trial, 0.5, "keep")
    waiting = add_trial(repo, "lower the rate", edits={"train.py": b"LR = 0.01\n"})

    rows = json.loads(call("-C", tmp_path / "s", "log", "--json").out)
    one = json.loads(call("-C", tmp_path / "s", "show", trial.short, "--json").out)
    status = json.loads(call("-C", tmp_path / "s", "status", "--json").out)
    best = json.loads(call("-C", tmp_path / "s", "best", "--json").out)

    assert {row["trial"] for row in rows} == {node.trial.oid for node in repo.trials(STUDY)}
    assert {"trial", "branch", "parents", "status", "specialist", "operator", "hypothesis"} <= set(rows[0])
    assert (one["status"], one["score"], one["hypothesis"]) == ("keep", 0.5, "raise the rate")
    assert {"runs", "diff", "decision", "environment", "binding", "body"} <= set(one)
    assert status["pending"] == [waiting.oid]
    assert status["statuses"] == {"baseline": 1, "keep": 1, "pending": 1}
    assert best["head"]["trial"] == trial.oid
    assert best["best"]["status"] == "baseline"


def test_what_proposals_cost(call: Cli, tmp_path: Path) -> None:
    """By specialist and altogether, per trial and per confirmed gain, with the turns that came to nothing."""
    repo = begun(tmp_path / "s")
    trial = add_trial(repo, "raise the rate", parents=[repo.trials(STUDY)[0].trial], specialist="one")
    record(repo, trial, 0.5, "keep", confirmed=True)
    note = (
        'study = "demo"\nspecialist = "one"\nagent = "openai"\nmodel = "m"\n{}[usage]\ntokens_in = 900\ndollars = 1.5\n'
    )
    repo.record_proposal(trial.oid, note.format("").encode())
    repo.record_failed_proposal(note.format('failed = "no edit"\n').encode())

    rows = json.loads(call("-C", tmp_path / "s", "cost", "--json").out)["specialists"]
    table = call("-C", tmp_path / "s", "cost").out
    shown = call("-C", tmp_path / "s", "show", trial.short).out

    assert rows["one"] == rows["all"]
    assert (rows["one"]["trials"], rows["one"]["without_edit"], rows["one"]["tokens_in"]) == (1, 1, 1800)
    assert (rows["one"]["dollars_per_trial"], rows["one"]["confirmed_gain"], rows["one"]["dollars_per_gain"]) == (
        3,
        0.5,
        6,
    )
    assert [line.split()[0] for line in table.splitlines()] == ["specialist", "one", "all"]
    assert "Proposed:   openai, m, 900 tokens, 1.5000 dollars" in shown


def test_looking_at_a_study_from_below(call: Cli, tmp_path: Path) -> None:
    """`-C` may name any folder of the checkout; every verb that looks answers, on stdout."""
    repo = begun(tmp_path / "s")
    trial = add_trial(repo)
    record(repo, trial, 2.0)
    (tmp_path / "s/deep/er").mkdir(parents=True)

    for args in (["log"], ["show", trial.short], ["show", "best"], ["best"], ["status"], ["diff", trial.short],
                 ["brief", "one"]):  # fmt: skip
        said = call("-C", tmp_path / "s/deep/er", *args)
        assert (said.code, bool(said.out)) == (0, True), (args, said.err)


def test_a_study_that_has_not_begun(call: Cli, tmp_path: Path) -> None:
    """Looking at a study.toml that nothing was run on says what to type, and changes nothing."""
    top = study(tmp_path / "s")

    assert "gitresearch run" in call("-C", top, "log").err
    assert "has not begun" in call("-C", top, "status").err
    refused(call("-C", top, "best"), "no score yet", hint="gitresearch run")
    refused(call("-C", top, "show", "best"), "no best yet", hint="gitresearch run")
    assert git(top, "for-each-ref", "--format=%(refname)") == "refs/heads/main\n"


# Repositories that are not as usual


def test_no_repository(call: Cli, tmp_path: Path) -> None:
    """Outside of any repository."""
    refused(call("-C", tmp_path, "log"), "not inside a git repository", hint="git init")


def test_no_such_directory(call: Cli, tmp_path: Path) -> None:
    """A folder that is not there."""
    refused(call("-C", tmp_path / "nowhere", "log"), "no such directory", hint="-C")


def test_a_bare_repository(call: Cli, tmp_path: Path) -> None:
    """A bare repository shows its study and refuses to begin one."""
    begun(tmp_path / "s")
    git(tmp_path, "clone", "-q", "--mirror", "s", "bare.git")
    git(tmp_path, "clone", "-q", "--bare", "s", "empty.git")
    git(tmp_path / "empty.git", "update-ref", "-d", "refs/gitresearch/studies/demo/base", check=False)

    said = call("-C", tmp_path / "bare.git", "log")
    assert (said.code, "baseline" in said.out) == (0, True)
    refused(call("-C", tmp_path / "empty.git", "log"), "no study here", hint="gitresearch init")
    refused(call("-C", tmp_path / "empty.git", "init"), "bare")


def test_no_commit_yet(call: Cli, tmp_path: Path) -> None:
    """A repository without a commit has nothing to begin from."""
    git(tmp_path, "init", "-q")
    (tmp_path / "study.toml").write_text(TOML)

    refused(begin_runs(call, tmp_path), "no commit yet", hint="git")


@pytest.mark.parametrize("verb", [("run", "--trials", "0"), ("evaluate",), ("propose",), ("reproduce", "baseline")])
def test_a_base_that_nobody_checked_out_runs_nothing(call: Cli, tmp_path: Path, verb: tuple[str, ...]) -> None:
    """Whoever may push a ref can pin a study that has not begun here; its hook would run outside every sandbox."""
    top = study(tmp_path)
    head = git(top, "rev-parse", "HEAD").strip()
    git(top, "commit", "-q", "--allow-empty", "-m", "with another hook")
    repo = Repo.open(top, durable=False)
    repo.pin_study(STUDY, repo.head_commit())
    record(repo, repo.make_baseline(STUDY, repo.head_commit()), 1.0, "baseline", n=2, sd=0.01)
    git(top, "reset", "-q", "--hard", head)

    refused(call("-C", top, *verb), "not in the history of what is checked out", hint="git diff HEAD")
    assert call("-C", top, "log").code == 0


def test_a_dirty_checkout_is_left_alone(call: Cli, tmp_path: Path) -> None:
    """Staged, changed and new files stay as they are, on the branch that was checked out."""
    top = study(tmp_path / "s", {"notes.txt": "a", "staged.txt": "b"})
    (top / "notes.txt").write_text("changed")
    (top / "staged.txt").write_text("staged")
    git(top, "add", "staged.txt")
    (top / "train.py").write_text("raise SystemExit('not the committed program')")
    before = git(top, "status", "--porcelain=v2", "--branch"), git(top, "rev-parse", "HEAD")

    said = begin_runs(call, top)

    assert said.code == 0, said.err
    assert (git(top, "status", "--porcelain=v2", "--branch"), git(top, "rev-parse", "HEAD")) == before
    assert (top / "train.py").read_text().startswith("raise")


def test_a_detached_head(call: Cli, tmp_path: Path) -> None:
    """A commit that no branch names can be a study's base."""
    top = study(tmp_path / "s")
    git(top, "checkout", "-q", "--detach")

    assert begin_runs(call, top).code == 0
    assert "baseline" in call("-C", top, "log").out


@pytest.mark.slow
def test_a_shallow_clone(call: Cli, tmp_path: Path) -> None:
    """The base commit is all that a study needs."""
    top = study(tmp_path / "s")
    (top / "later.txt").write_text("x")
    git(top, "add", ".")
    git(top, "commit", "-qm", "later")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{top}", "shallow")

    assert begin_runs(call, tmp_path / "shallow").code == 0


def cannot_write(top: Path) -> list[str]:
    """Make a folder one that this process's children can't write; the words before their command."""
    become: list[str] = []
    if os.getuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root writes anywhere, and setpriv is not installed")
        become = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--"]
    for path, names, files in os.walk(top):
        for name in (*names, *files):
            os.chmod(os.path.join(path, name), 0o555)
    top.chmod(0o555)
    return become


@pytest.mark.slow
def test_a_read_only_repository(tmp_path: Path) -> None:
    """Looking works; writing is refused in one sentence."""
    begun(tmp_path / "s")
    become = cannot_write(tmp_path / "s")
    base = [*become, *PROGRAM, "-C", str(tmp_path / "s")]

    look = subprocess.run([*base, "log"], capture_output=True, text=True, check=False)
    write = subprocess.run([*base, "propose"], capture_output=True, text=True, check=False)

    assert (look.returncode, "baseline" in look.stdout) == (0, True), look.stderr
    refused(Said(write.returncode, write.stdout, write.stderr), "permission")


@pytest.mark.slow
def test_a_full_disk(tmp_path: Path) -> None:
    """Nothing half-written: one sentence, and the repository still sound."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        pytest.skip("bubblewrap is not installed")
    begun(tmp_path / "s")
    (tmp_path / "full").mkdir()
    script = (
        'full=$1; cp -r "$0" "$full/s"; dd if=/dev/zero of="$full/fill" bs=4096 2>/dev/null; shift; "$@"; code=$?; '
        'git -C "$full/s" fsck --strict 2>&1 | grep -v dangling >&2; exit $code'
    )
    full = str(tmp_path / "full")
    done = subprocess.run(
        [bwrap, "--dev-bind", "/", "/", "--size", str(4 << 20), "--tmpfs", full, "sh", "-c", script,
         str(tmp_path / "s"), full, sys.executable, "-c", PROGRAM[2], "-C", f"{full}/s", "propose"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "bwrap:" in done.stderr:
        pytest.skip(f"bubblewrap does not work here: {done.stderr.strip()}")

    refused(Said(done.returncode, done.stdout, done.stderr), "the disk is full", hint="df")


# Trials that are not there, or not readable


def test_an_unknown_trial(call: Cli, tmp_path: Path) -> None:
    """The name is said, and the nearest, or where to look."""
    begun(tmp_path / "s")

    for verb in ("show", "diff"):
        refused(call("-C", tmp_path / "s", verb, "deadbeef"), "no trial is called 'deadbeef'", hint="gitresearch log")
    refused(call("-C", tmp_path / "s", "evaluate", "--", "-x\x1b[2J"), "no trial is called")
    assert "\x1b" not in call("-C", tmp_path / "s", "show", "\x1b[2J").err


@pytest.mark.slow
def test_an_ambiguous_prefix(call: Cli, tmp_path: Path) -> None:
    """Both trials are named."""
    repo = begun(tmp_path / "s")
    seen: dict[str, str] = {}
    for number in range(3000):
        trial = add_trial(repo, f"try {number}", edits={"train.py": f"LR = {number}\n".encode()})
        if (twin := seen.setdefault(trial.oid[:4], trial.oid)) != trial.oid:
            break

    refused(call("-C", tmp_path / "s", "show", twin[:4]), "names 2 trials")


def test_an_unknown_specialist(call: Cli, tmp_path: Path) -> None:
    """A mistyped specialist names the nearest."""
    begun(tmp_path / "s")

    refused(call("-C", tmp_path / "s", "log", "--specialist", "onne"), "did you mean one?", hint="one")


def test_several_studies(call: Cli, tmp_path: Path) -> None:
    """With several studies and none checked out, they are named."""
    repo = begun(tmp_path / "s")
    repo.pin_study("other", repo.head_commit())
    (tmp_path / "s/study.toml").unlink()

    refused(call("-C", tmp_path / "s", "log"), "several studies", hint="demo | other")
    assert call("-C", tmp_path / "s", "--study", "demo", "log").code == 0
    refused(call("-C", tmp_path / "s", "--study", "demmo", "log"), "no study 'demmo'", hint="--study demo")
    refused(call("-C", tmp_path / "s", "--study", "other", "log"), "holds study demo")


@pytest.mark.parametrize("note", ["rubbish\n", "= = =\n", "status = 'keep'\n", "\x1b]0;owned\x07\n"])
def test_a_broken_note_is_shown(call: Cli, tmp_path: Path, note: str) -> None:
    """A note that can't be read hides no trial and breaks no command: the trial is unreadable, and why is said."""
    repo = begun(tmp_path / "s")
    trial, good = add_trial(repo, "first"), add_trial(repo, "second")
    record(repo, trial, 0.5, "discard")
    record(repo, good, 0.7, "discard")
    (ref,) = git(repo, "for-each-ref", "--format=%(refname)", "refs/notes/gitresearch/outcomes").split()
    (tmp_path / "note").write_text(note)
    git(repo, "notes", "--ref", ref, "add", "-f", "-F", str(tmp_path / "note"), trial.oid)

    for cached in range(2):
        log = call("-C", tmp_path / "s", "log")
        show = call("-C", tmp_path / "s", "show", trial.short)
        rows = {row["trial"]: row for row in json.loads(call("-C", tmp_path / "s", "log", "--json").out)}
        assert (log.code, show.code, show.err) == (0, 0, ""), cached
        assert "unreadable" in next(line for line in log.out.split("\n") if trial.short in line)
        assert "unreadable" in show.out
        assert "\x1b" not in log.out + show.out
        assert (rows[trial.oid]["status"], bool(rows[trial.oid]["broken"])) == ("unreadable", True)
        assert rows[good.oid]["score"] == 0.7
    assert call("-C", tmp_path / "s", "status").code == 0
    assert call("-C", tmp_path / "s", "best").code == 0


def test_a_foreign_branch_is_passed_over(call: Cli, tmp_path: Path) -> None:
    """A branch under trial/ that is no trial does not break the list."""
    repo = begun(tmp_path / "s")
    trial = add_trial(repo)
    git(repo, "branch", "trial/demo/not-one-of-ours", "HEAD")
    git(repo, "branch", "trial/elsewhere", "HEAD")

    said = call("-C", tmp_path / "s", "log")

    assert said.code == 0, said.err
    assert trial.short in said.out


# study.toml


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "demo"', 'nmae = "demo"', "study.toml:1: nmae is an unknown key; did you mean 'name'?"),
        ('name = "demo"', "", "name is missing"),
        ('name = "demo"', 'name = "De mo"', "study.toml:1: name must be lower-case"),
        ('name = "demo"', "name = 3", "must be a string"),
        ('name = "demo"', 'name = "demo', "no TOML"),
        ('metric = "val_loss"', 'metric = "val loss"', "study.toml:8: objective.metric is a plain name"),
        ('metric = "val_loss"', 'metric = "l"\ndirection = "down"', "must be one of min, max"),
        ("train_seconds = 20", 'train_seconds = "20"', "study.toml:11: budget.train_seconds must be a number"),
        ("train_seconds = 20", "train_seconds = 0", "more than 0"),
        ("train_seconds = 20", "train_seconds = nan", "finite"),
        ("train_seconds = 20", "train_secs = 20", "did you mean 'train_seconds'"),
        ("baseline = 2", "baseline = 1", "seeds.baseline must be 2 to 1000"),
        ("baseline = 2", "baseline = true", "must be a whole number"),
        ("(\\S+)", "\\S+", "exactly one group"),
        ("(\\S+)", "(\\S+", "no regular expression"),
        ("pattern =", "hook = 'hook.py'\npattern =", "give exactly one"),
        ("pattern = '''val_loss: (\\S+)'''", "hook = '../hook.py'", "inside the repository"),
        ('"python train.py"', '""', "names the command"),
        ('"python train.py"', '"python \'train.py"', "can't be split"),
        ('surface = ["train.py"]', "surface = []", "at least one path"),
        ('surface = ["train.py"]', 'surface = "train.py"', "must be a list"),
        ('surface = ["train.py"]', 'surface = ["/etc/*"]', "leaves the repository"),
        ('name = "one"', 'name = "baseline"', "can't be named"),
        ("[[specialists]]\n", "[[specialists]]\nname = 'one'\nsurface = ['a']\n[[specialists]]\n", "different names"),
        ('[[specialists]]\nname = "one"\nsurface = ["train.py"]', "", "specialists is missing"),
        ('[recipe]\ntrain = "python train.py"', "recipe = 3", "recipe must be a table"),
    ],
)
def test_mistakes_in_study_toml(call: Cli, tmp_path: Path, old: str, new: str, told: str) -> None:
    """Each mistake is said with line and key, by verbs that look and that work alike."""
    assert old in TOML
    top = study(tmp_path / "s", toml=TOML.replace(old, new, 1))

    for said in (call("-C", top, "status"), begin_runs(call, top)):
        refused(said, told, hint="edit study.toml")


def test_study_toml_is_no_text(call: Cli, tmp_path: Path) -> None:
    """A file that is no UTF-8 is said to be that."""
    top = study(tmp_path / "s")
    (top / "study.toml").write_bytes(b"\xff\xfe\x00")

    refused(call("-C", top, "status"), "study.toml")


def test_study_toml_is_not_committed(call: Cli, tmp_path: Path) -> None:
    """A study begins from a commit that holds its study.toml as it lies there."""
    top = study(tmp_path / "s")
    (top / "study.toml").write_text(TOML + "# more\n")

    refused(begin_runs(call, top), "begins from a commit", hint="git add study.toml && git commit")
    git(top, "rm", "-q", "--cached", "study.toml")
    git(top, "commit", "-qm", "without")
    refused(begin_runs(call, top), "begins from a commit", hint="git add study.toml")


def test_a_study_keeps_to_its_base(call: Cli, tmp_path: Path) -> None:
    """Editing study.toml of a study that has begun changes nothing, and is said; a broken one breaks nothing."""
    begun(tmp_path / "s")
    (tmp_path / "s/study.toml").write_text(TOML.replace("lowest", "highest"))

    said = call("-C", tmp_path / "s", "status")
    assert "lowest" in said.out
    assert "has changed since the study began" in said.err

    (tmp_path / "s/study.toml").write_text("name = ")
    assert call("-C", tmp_path / "s", "--study", "demo", "status").code == 0


def test_a_surface_that_matches_nothing(call: Cli, tmp_path: Path) -> None:
    """A specialist that could edit nothing is named before a second is spent."""
    top = study(tmp_path / "s", toml=TOML.replace('["train.py"]', '["src/*.py"]'))

    refused(begin_runs(call, top), "the surface of one matches no file", hint="study.toml")


def test_a_surface_of_a_symbol_that_is_nowhere(call: Cli, tmp_path: Path) -> None:
    """A mistyped symbol is named too: what nobody defined, nobody could edit."""
    top = study(tmp_path / "s", toml=TOML.replace('["train.py"]', '["train.py::WIDTH", "*.py::RL"]'))

    refused(begin_runs(call, top), "the surface of one names *.py::RL, which no file defines", hint="study.toml")


def test_a_recipe_folder_that_is_not_there(call: Cli, tmp_path: Path) -> None:
    """The recipe's root must be in the commit."""
    top = study(tmp_path / "s", toml=TOML.replace("[recipe]", '[recipe]\nroot = "recipes/mine"'))

    refused(begin_runs(call, top), "recipes/mine is not in commit")


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import no_such_module\n", "no_such_module"),
        ("print('loss: 3')\n", "val_loss was not printed"),
        ("print('val_loss: nan')\n", "val_loss is nan"),
        ("print('val_loss: low')\n", "low"),
        ("import os; os.abort()\n", "SIGABRT"),
    ],
)
def test_a_recipe_that_fails(call: Cli, tmp_path: Path, program: str, told: str) -> None:
    """There is nothing to search from; why is said in one sentence, and kept as the baseline's outcome."""
    top = study(tmp_path / "s", {"train.py": program})

    refused(begin_runs(call, top), "the unchanged recipe fails", told, hint="gitresearch show")
    assert told in call("-C", top, "log", "--json").out


HOOKED = TOML.replace("pattern = '''val_loss: (\\S+)'''", 'hook = "judge/hook.py"')


@pytest.mark.parametrize(
    ("hook", "told"),
    [
        (None, "the hook judge/hook.py is not in commit"),
        ("import sys; sys.exit('out of order')", "out of order"),
        ("print('hello')", "no reply we can read"),
        ("", "no reply we can read"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_hook_that_fails(call: Cli, tmp_path: Path, hook: str | None, told: str) -> None:
    """A hook that is missing, crashes or prints rubbish is said before any trial runs."""
    top = study(tmp_path / "s", {} if hook is None else {"judge/hook.py": hook}, HOOKED)

    refused(begin_runs(call, top), told)


def test_knowledge_that_is_not_there(call: Cli, tmp_path: Path) -> None:
    """A knowledge file that the base commit lacks is said before any trial runs."""
    top = study(tmp_path / "s", {}, 'knowledge = ["rules.md"]\n' + TOML)

    refused(begin_runs(call, top), "the knowledge file rules.md is not in commit", hint="git add rules.md")


def test_a_hook_that_fails_later(call: Cli, tmp_path: Path) -> None:
    """A hook that breaks while it scores is our fault, not the recipe's; the sentence says so."""
    hook = "import json, sys\nverb = sys.argv[1]\nif verb == 'score': sys.exit('the judge fell asleep')\nprint('{}')"
    hook = hook.replace("print('{}')", "print(json.dumps({'ok': True, 'artefact_bytes': 1}))")
    top = study(tmp_path / "s", {"judge/hook.py": hook}, HOOKED)

    refused(begin_runs(call, top), "harness_abort", "the judge fell asleep")


def test_no_sandbox(call: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a sandbox `run` is refused with both ways out; --allow-unsandboxed runs and every outcome says so."""
    monkeypatch.setattr(launcher, "landlock_abi", lambda: 0)
    top = study(tmp_path / "s")
    (tmp_path / "bin").mkdir()
    for name in ("git", "setpriv"):
        if found := shutil.which(name):
            (tmp_path / "bin" / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    refused(call("-C", top, "run", "--trials", "0"), "bubblewrap is not installed", hint="--allow-unsandboxed")
    said = call("-C", top, "run", "--trials", "0", "--allow-unsandboxed")
    assert said.code == 0, said.err
    assert "every outcome says so" in said.err
    assert "sandbox none" in call("-C", top, "show", "best").out


def test_the_openai_agent_needs_a_model(call: Cli, tmp_path: Path) -> None:
    """Asked for without a model, it says what to type."""
    refused(call("-C", study(tmp_path / "s"), "run", "--agent", "openai"), "needs a model", hint="--model")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--model", "m"], "the variable OPENAI_API_KEY holds no key"),
        (["--base-url", "http://127.0.0.1:9/v1"], "the openai agent needs a model"),
        (["--command", ""], "the command agent needs a command"),
        (["--command", "a 'b"], "the command \"a 'b\" can't be taken apart"),
    ],
)
def test_a_flag_says_which_agent_is_meant(
    call: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], told: str
) -> None:
    """What only one kind of agent has is never passed over for the agent of the study."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    begun(tmp_path / "s")
    refused(call("-C", tmp_path / "s", "propose", *flags), told)


@pytest.mark.parametrize(
    "flags", [["--agent", "openai", "--command", "true"], ["--tokens", "0"], ["--dollars", "0"], ["--hours", "0"]]
)
def test_flags_that_mean_nothing(call: Cli, tmp_path: Path, flags: list[str]) -> None:
    """Two agents at once, or a cap of nothing, which is no cap, are wrong usage."""
    assert call("-C", study(tmp_path / "s"), "run", *flags).code == 2


def test_a_change_across_surfaces(call: Cli, tmp_path: Path) -> None:
    """No one specialist may make it; a generalist may."""
    second = '[[specialists]]\nname = "two"\nsurface = ["train.py::WIDTH"]\n'
    begun(tmp_path / "s", toml=TOML.replace('["train.py"]', '["train.py::LR"]') + second)
    (tmp_path / "s" / "train.py").write_text(TRAIN.replace("0.1", "0.2").replace("8", "9"))
    own = ("-C", tmp_path / "s", "propose", "--from-worktree", "-m", "both at once")
    refused(call(*own), "lies in the surfaces of several specialists", hint="--roster generalist")
    assert call(*own, "--roster", "generalist").code == 0


def test_the_baseline_has_a_name(call: Cli, tmp_path: Path) -> None:
    """A change that was made on the recipe as it was at first can say so."""
    repo = begun(tmp_path / "s")
    (tmp_path / "s" / "train.py").write_text(TRAIN.replace("0.1", "0.2"))
    said = call("-C", tmp_path / "s", "propose", "--from-worktree", "-m", "raise it", "--parent", "baseline")
    assert repo.trial(said.out.strip()).parents == (repo.find("baseline", STUDY).oid,)


def test_a_refused_key_ends_a_run_before_the_baseline(
    call: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits hours for the baseline to learn that the key is wrong; a doubt about the model is said ahead."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-0123456789")
    top = study(tmp_path)
    with serving() as server:
        asked = ("--agent", "openai", "--model", "m", "--base-url", server.base_url)
        server.listing = fails(401)
        refused(begin_runs(call, top, *asked), "refused the key in OPENAI_API_KEY", hint="export OPENAI_API_KEY=")
        server.listing = Scripted(body=b'{"data": [{"id": "mm"}]}')
        assert "does not list the model m, but mm" in begin_runs(call, top, *asked).err


def test_a_cap_in_dollars_needs_a_price(
    call: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed_world: Path
) -> None:
    """A model whose price nobody tells can't be capped in dollars; the person's own file of prices mends it."""
    top = study(tmp_path / "s")
    asked = ["-C", top, "run", "--agent", "openai", "--model", "tiny-7b", "--dollars", "1", *allowed()]
    refused(call(*asked), "needs the price of tiny-7b", hint="[[prices]]")

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    prices = tmp_path / "gitresearch/prices.toml"
    prices.parent.mkdir()
    prices.write_text('[[prices]]\nmodel = "tiny-*"\ndollars_in = 1\n')
    refused(call(*asked), "prices.toml:1: prices.dollars_out is missing", hint="edit")
    prices.write_text('[[prices]]\nmodel = "tiny-*"\ndollars_in = 1\ndollars_out = 2\n')
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    refused(call(*asked, "--trials", "1"), "OPENAI_API_KEY holds no key", hint="export")


# init


def test_init_finds_a_script_out(call: Cli, tmp_path: Path) -> None:
    """A train.py that prints its loss is all it takes: no question, and a commit of just what is new."""
    git(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "other.txt").write_text("mine")

    said = call("-C", tmp_path, "init")

    assert said.code == 0, said.err
    assert "minimise val_loss" in said.err
    assert git(tmp_path, "show", "--name-only", "--format=").split() == ["allowed_signers", "study.toml", "train.py"]
    assert git(tmp_path, "status", "--porcelain") == "?? other.txt\n"
    assert call("-C", tmp_path, "status").code == 0


@pytest.mark.parametrize(
    ("script", "metric", "direction"),
    [
        ('print(f"step {i} loss: {loss:.3f}")\nprint(f"val_loss: {v}")', "val_loss", "min"),
        ('print("final accuracy:", acc)', "final_accuracy", "max"),
        ("print('loss: %.3f' % loss)", "loss", "min"),
        ('print("test_acc={}".format(a))', "test_acc", "max"),
        ('print("val_loss: 0.5")', "val_loss", "min"),
        ('print("Ridge score: %f" % model.score(x, y))', "Ridge_score", "max"),
    ],
)
def test_init_guesses_the_metric(call: Cli, tmp_path: Path, script: str, metric: str, direction: str) -> None:
    """Validation before training, accuracy upwards, however Python formats it; the only script trains."""
    (tmp_path / "mine.py").write_text(script)

    assert call("-C", tmp_path, "init").code == 0
    text = (tmp_path / "study.toml").read_text()
    assert f'metric = "{metric}"' in text
    assert f'direction = "{direction}"' in text


def test_init_cannot_guess(call: Cli, tmp_path: Path) -> None:
    """What can't be found out has a flag, named in the hint; nothing is written."""
    refused(call("-C", tmp_path, "init"), "the command that trains", hint="--train")
    (tmp_path / "train.py").write_text("print('hello')")
    refused(call("-C", tmp_path, "init"), "the metric", hint="--metric")
    refused(call("-C", tmp_path, "init", "--train", "python nothing.py"), "nothing.py", hint="--train")
    assert not (tmp_path / "study.toml").exists()


def test_init_refuses_to_overwrite(call: Cli, tmp_path: Path) -> None:
    """A study.toml that is there stays."""
    top = study(tmp_path / "s")

    refused(call("-C", top, "init"), "already there", hint="status")
    assert (top / "study.toml").read_text() == TOML


def test_init_refuses_a_folder_that_is_not_empty(call: Cli, tmp_path: Path) -> None:
    """A folder with other things in it is not taken over."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")

    refused(call("-C", tmp_path, "init", "full", "--recipe", "parameter_golf"), "not empty")
    refused(call("-C", tmp_path, "init", "full/file"), "file")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


def test_init_from_a_recipe(call: Cli, tmp_path: Path) -> None:
    """The recipe, its hook and study.toml land in a repository of their own, committed, and are a study."""
    said = call("-C", tmp_path, "init", "mine", "--recipe", "golf", "--name", "my-golf")

    assert said.code == 0, said.err
    assert git(tmp_path / "mine", "status", "--porcelain") == ""
    assert "my-golf" in call("-C", tmp_path / "mine", "status").out
    refused(call("-C", tmp_path, "init", "again", "--recipe", "gofl"), "gofl")
    assert call("-C", tmp_path, "init", "again", "--scale", "full").code == 2


@pytest.mark.parametrize("name", ["My Study", "a/b", "-x", ""])
def test_init_refuses_a_bad_name(call: Cli, tmp_path: Path, name: str) -> None:
    """A name that can't be a branch's is refused before anything is written."""
    (tmp_path / "train.py").write_text(TRAIN)

    said = call("-C", tmp_path, "init", f"--name={name}")

    assert said.code == (1 if name else 0), said.err
    assert (tmp_path / "study.toml").exists() == (not name)


def test_init_lists_this_clones_key(call: Cli, tmp_path: Path) -> None:
    """What it measures counts from the start; signers that were there stay, and the key is in no file of the study."""
    top = plain_repo(tmp_path / "s", {"train.py": TRAIN.encode(), "allowed_signers": b"eve ssh-rsa AAAA"})
    assert call("-C", top, "init").code == 0
    eve, mine = git(top, "show", "HEAD:allowed_signers").splitlines()
    assert (eve, f"{mine}\n") == ("eve ssh-rsa AAAA", call("-C", top, "key").out)
    private = key_file(Repo.open(top).evaluator_id())
    assert private.stat().st_mode & 0o777 == 0o600
    assert not private.is_relative_to(top)
    assert private.read_text().split("\n")[3] not in git(top, "log", "-p", "--all")


def test_a_key_that_the_study_does_not_list_is_said(call: Cli, tmp_path: Path) -> None:
    """Before a night is measured that no audit takes."""
    top = study(tmp_path / "s")
    assert "allowed_signers of the study does not list" in begin_runs(call, top).err
    other = study(tmp_path / "t", {"allowed_signers": ""})
    (other / "allowed_signers").write_text(call("-C", other, "key").out)
    git(other, "commit", "--quiet", "-am", "list this clone")
    assert "allowed_signers" not in begin_runs(call, other).err


def test_init_without_an_identity(call: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine where git knows no name the study is committed all the same."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    (tmp_path / "train.py").write_text(TRAIN)

    said = call("-C", tmp_path, "init")

    assert said.code == 0, said.err
    assert git(tmp_path, "log", "--oneline").count("\n") == 1


def test_from_init_to_a_trial(call: Cli, tmp_path: Path) -> None:
    """`gitresearch init` and `gitresearch run --trials 1` on a script of one's own: an outcome without one question."""
    top = tmp_path / "mine"
    top.mkdir()
    (top / "train.py").write_text(TRAIN)
    assert call("-C", top, "init").code == 0

    said = call("-C", top, "run", "--trials", "1", "--plain", *allowed())

    assert said.code == 0, said.err
    assert "1 trial proposed" in said.err
    rows = json.loads(call("-C", top, "log", "--json").out)
    assert len(rows) == 2
    assert rows[-1]["status"] == "baseline"
    assert rows[0]["status"] in ("keep", "discard")
    assert rows[0]["score"] != rows[1]["score"]
    assert "val_loss" in git(top, "log", "--notes=gitresearch/*", "-1", rows[0]["branch"])


def test_a_diverged_metric_is_no_score(call: Cli, tmp_path: Path) -> None:
    """The pattern that init writes sees `nan`: an earlier finite value does not stand in for it."""
    (tmp_path / "train.py").write_text(TRAIN + 'x = float("nan")\nprint(f"val_loss: {x}")\n')
    assert call("-C", tmp_path, "init").code == 0

    refused(begin_runs(call, tmp_path), "the unchanged recipe fails", "val_loss is nan")


def test_propose_then_evaluate(call: Cli, tmp_path: Path) -> None:
    """A trial made by hand is evaluated once; asked again, it is shown, not run."""
    top = study(tmp_path / "s")
    proposed = call("-C", top, "propose", "one")
    assert proposed.code == 0, proposed.err
    oid = proposed.out.strip()

    first = call("-C", top, "evaluate", oid, *allowed())
    again = call("-C", top, "evaluate", oid, *allowed())

    assert first.code == again.code == 0, first.err
    assert first.out == again.out
    assert "train " in first.err
    assert "train " not in again.err


def test_propose_a_combination_an_ablation_and_a_replicate(call: Cli, tmp_path: Path) -> None:
    """Without an agent, a key or a specialist's surface; `show`, `log` and `diff` tell what they stand on."""
    repo = begun(tmp_path)
    base = repo.trials(STUDY)[0].trial
    step = add_trial(repo, "a first step", [base], {"a.py": b"A = 1\n"})
    head = add_trial(repo, "a second step", [step], {"b.py": b"B = 1\n"})
    aside = add_trial(repo, "a step aside", [base], {"c.py": b"C = 1\n"})
    for trial, score in ((step, 0.9), (head, 0.8), (aside, 0.85)):
        record(repo, trial, score, "keep")
    model = ["--agent", "openai", "--model", "none"]

    both = call("-C", tmp_path, "propose", "--operator", "combine", "--with", aside.short, *model)
    less = call("-C", tmp_path, "propose", "one", "--operator", "ablate", "--without", step.short, *model)
    same = call("-C", tmp_path, "propose", "--operator", "replicate", "--parent", step.short, *model)
    assert (both.code, less.code, same.code) == (0, 0, 0), both.err + less.err + same.err

    assert f"Parents:    {head.short}, {aside.short}" in call("-C", tmp_path, "show", both.out.strip()).out
    change = call("-C", tmp_path, "diff", both.out.strip()).out
    assert "+C = 1" in change
    assert "B = 1" not in change
    assert "-A = 1" in call("-C", tmp_path, "diff", less.out.strip()).out
    assert "no difference" in call("-C", tmp_path, "diff", same.out.strip()).err
    assert f"replicate {step.short}: a first step" in call("-C", tmp_path, "log").out
    again = call("-C", tmp_path, "propose", "--operator", "combine", "--with", aside.short)
    refused(again, f"{head.short} and {aside.short} give the files of {both.out[:8]}")
    refused(call("-C", tmp_path, "propose", "--operator", "combine", "--with", base.short), "stands on")
    refused(call("-C", tmp_path, "propose", "--operator", "ablate", "--without", aside.short), "does not stand on")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--operator", "combine"], "needs --with"),
        (["--operator", "ablate"], "needs --without"),
        (["--with", "best"], "--with goes with --operator combine"),
        (["--operator", "ablate", "--with", "best"], "--with goes with --operator combine"),
        (["--operator", "combine", "--with", "best", "--without", "head"], "--without goes with --operator ablate"),
        (["--operator", "replicate", "--from-worktree", "-m", "x"], "takes no change of your own"),
        (["--operator", "combine", "--with", "best", "--from-worktree", "-m", "x"], "takes no change of your own"),
    ],
)
def test_operators_that_lack_something(call: Cli, tmp_path: Path, args: list[str], told: str) -> None:
    """Wrong usage, before anything is looked up."""
    said = call("-C", tmp_path, "propose", *args)
    assert (said.code, said.out) == (2, "")
    assert told in said.err


def test_rosters(call: Cli, tmp_path: Path) -> None:
    """The study's or the flag's; the note keeps it, and the log knows the names that the lineage holds."""
    repo = begun(tmp_path, toml=TOML.replace('name = "demo"\n', 'name = "demo"\nroster = "generics:2"\n', 1))
    said = call("-C", tmp_path, "propose")
    other = call("-C", tmp_path, "propose", "--roster", "generalist")
    assert (said.code, other.code) == (0, 0), said.err + other.err

    trials = {record.trial.oid: record.trial.specialist for record in repo.trials(STUDY)}
    assert (trials[said.out.strip()], trials[other.out.strip()]) == ("generic-1", "generalist")
    shown = json.loads(call("-C", tmp_path, "show", other.out.strip(), "--json").out)
    assert shown["proposal"]["roster"] == "generalist"
    assert shown["proposal"]["policy"]
    assert "generalist" in call("-C", tmp_path, "log", "--specialist", "generalist").out
    assert "no such trials" in call("-C", tmp_path, "log", "--specialist", "generic-2").err
    refused(call("-C", tmp_path, "log", "--specialist", "one"), "no specialist 'one'", hint="generic-1")
    assert "## You are generic-2" in call("-C", tmp_path, "brief", "generic-2").out
    assert "## You are one" in call("-C", tmp_path, "brief", "one", "--roster", "specialists").out
    refused(call("-C", tmp_path, "propose", "--roster", "nobody"), "no roster 'nobody'", hint="generics:N")


# Interruption


WAIT = "import time\ndef wait(*values): time.sleep(0 if values == (0.1, 8) else 2)\n"
SLOW = TRAIN.replace("print", "import time; time.sleep(0.6)\nprint")


def test_an_audit(call: Cli, tmp_path: Path) -> None:
    """Exit 0 where everything follows; 4 with a line for what doesn't; JSON for a pipe; what it saw is remembered."""
    top = study(tmp_path / "s", {"allowed_signers": ""})
    refused(call("-C", top, "audit"), "claims nothing", hint="gitresearch run")
    (top / "allowed_signers").write_text(call("-C", top, "key").out)
    git(top, "commit", "--quiet", "-am", "list this clone")
    begin_runs(call, top)
    fine = call("-C", top, "audit")
    assert (fine.code, fine.out) == (0, "")
    assert "0 findings in 1 trial, 1 outcome, 4 notes commits" in fine.err
    ref = f"refs/notes/gitresearch/outcomes/{Repo.open(top).evaluator_id()}"
    git(top, "update-ref", ref, f"{ref}~1")
    found = call("-C", top, "audit")
    assert (found.code, found.out.count("\n")) == (4, 1)
    assert f"{ref}: expected: notes are only added to; found: " in found.out
    assert call("-C", top, "audit").code == 4, "what is gone stays a finding"
    (finding,) = json.loads(call("-C", top, "audit", "--json").out)["findings"]
    assert finding["about"] == ref


def test_an_audit_by_other_signers(call: Cli, tmp_path: Path) -> None:
    """A study that lists nobody can be believed by whoever knows the key."""
    top = study(tmp_path / "s")
    begin_runs(call, top)
    found = call("-C", top, "audit")
    assert (found.code, "lists no signers" in found.err) == (4, True)
    (tmp_path / "known").write_text(call("-C", top, "key").out)
    assert call("-C", top, "audit", "--signers", tmp_path / "known").code == 0
    (tmp_path / "known").write_text("garbage\n")
    refused(
        call("-C", top, "audit", "--signers", tmp_path / "known"),
        "line 1 is no line of allowed signers",
        hint="gitresearch key",
    )


def start(top: Path, *more: str) -> "subprocess.Popen[str]":
    args = ["-C", str(top), "run", "--trials", "2", "--jobs", "1", "--plain", *allowed(), *more]
    return subprocess.Popen([*PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(process: "subprocess.Popen[str]", word: str) -> str:
    """Read stderr up to the line that holds the word."""
    assert process.stderr is not None
    read = ""
    for line in process.stderr:
        read += line
        if word in line:
            return read
    raise AssertionError(read)


@pytest.mark.slow
def test_interrupted_once_it_finishes_what_runs(call: Cli, tmp_path: Path) -> None:
    """^C lets the running trial end, records it, and exits 130."""
    top = study(tmp_path / "s", {"train.py": SLOW})
    process = start(top)
    until(process, "train     screen")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    assert "waiting for what runs" in err
    assert "Traceback" not in err
    statuses = json.loads(call("-C", top, "status", "--json").out)["statuses"]
    assert statuses["baseline"] == 1
    assert statuses.get("keep", 0) + statuses.get("discard", 0) == 1


@pytest.mark.slow
def test_interrupted_twice_it_stops_now(call: Cli, tmp_path: Path) -> None:
    """A second ^C ends the run at once; the trial waits, no claim is in the way, and the next run evaluates it."""
    top = study(tmp_path / "s", {"train.py": TRAIN + "import slow; slow.wait(LR, WIDTH)\n", "slow.py": WAIT})
    process = start(top)
    until(process, "train     screen")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    until(process, "waiting for what runs")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    assert time.monotonic() - began < 5
    assert "Traceback" not in err
    assert json.loads(call("-C", top, "status", "--json").out)["running"] == []
    assert begin_runs(call, top).code == 0
    assert "pending" not in json.loads(call("-C", top, "status", "--json").out)["statuses"]


@pytest.mark.slow
def test_interrupted_while_it_calibrates(call: Cli, tmp_path: Path) -> None:
    """^C twice during calibration exits 130 without a word of failure; the next run goes on."""
    top = study(tmp_path / "s", {"train.py": SLOW})
    process = start(top)
    until(process, "train     baseline")
    for word in ("waiting for what runs", "stopping now"):
        process.send_signal(signal.SIGINT)
        until(process, word)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    assert "fails" not in err
    assert begin_runs(call, top).code == 0


@pytest.mark.slow
def test_killed_and_run_again(call: Cli, tmp_path: Path) -> None:
    """kill -9 in the middle of a trial: the next run goes on from git alone and leaves nothing behind."""
    top = study(tmp_path / "s", {"train.py": SLOW})
    process = start(top)
    until(process, "train     screen")
    process.kill()
    process.communicate()

    said = call("-C", top, "run", "--trials", "0", *allowed())

    assert said.code == 0, said.err
    status = json.loads(call("-C", top, "status", "--json").out)
    assert (status["trials"], status["pending"], status["running"]) == (2, [], [])
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "gitresearch/work"
    assert not [path for path in cache.iterdir() if f"-{process.pid}-" in path.name]
    assert "error" not in git(top, "fsck", "--strict")


@pytest.mark.slow
def test_terminated_is_interrupted(tmp_path: Path) -> None:
    """SIGTERM, as a batch system sends it, is a ^C."""
    top = study(tmp_path / "s", {"train.py": SLOW})
    process = start(top)
    until(process, "train     baseline")
    process.terminate()
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def test_terminated_while_an_agent_works(tmp_path: Path) -> None:
    """The agent that was started is ended too."""
    begun(tmp_path / "s")
    mine = tmp_path / "agent"
    mine.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    mine.chmod(0o755)
    words = ("-C", str(tmp_path / "s"), "propose", "--command", str(mine))
    process = subprocess.Popen([*PROGRAM, *words], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert process.poll() is None
        time.sleep(0.02)
    process.terminate()
    assert process.communicate(timeout=30)[1].strip() == "gitresearch: stopped"
    assert process.returncode == 130
    assert gone(int((tmp_path / "pid").read_text()))


def test_outcomes_are_equal_by_hand(tmp_path: Path) -> None:
    """The builder's outcome is what the store reads back: the other tests stand on it."""
    repo = begun(tmp_path / "s")
    trial = add_trial(repo)
    record(repo, trial, 0.5)

    assert repo.outcome(trial.oid) == outcome(0.5)


# data

PREPARES = """\
import json, pathlib, sys
cache = pathlib.Path(json.load(sys.stdin)["cache"])
print("fetching the text (public domain)", file=sys.stderr)
for name in ("train", "held_out"):
    (cache / name).mkdir(parents=True, exist_ok=True)
    (cache / name / "text").write_text("ab")
print(json.dumps({"train": str(cache / "train"), "held_out": str(cache / "held_out"), "digest": "sha256:12"}))
"""
LACKS = """\
import json, sys
data = json.load(sys.stdin)["settings"].get("data", "")
print(json.dumps({"error": f"no shards in {data!r}; try: ls {data}"}))
"""


def test_data_is_fetched_and_shown(call: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a study's data lies is known once it was fetched; the study need not have begun."""
    monkeypatch.setenv("GITRESEARCH_CACHE", str(tmp_path / "cache"))
    top = study(tmp_path / "s", {"judge/hook.py": PREPARES}, HOOKED)
    refused(call("-C", top, "data", "show"), "not here yet", hint="gitresearch data fetch")

    fetched, shown = call("-C", top, "data", "fetch", "--json"), call("-C", top, "data", "show", "--json")
    assert json.loads(fetched.out)["train"] == {
        "path": str(tmp_path / "cache/gitresearch/data/train"),
        "files": 1,
        "bytes": 2,
    }
    assert shown.out == fetched.out
    assert "sha256:12" in call("-C", top, "data", "show").out
    assert git(top, "for-each-ref", "refs/gitresearch") == ""


def test_what_a_hook_says_while_it_fetches_is_shown(tmp_path: Path) -> None:
    """Progress and licence reach the terminal as they come."""
    top = study(tmp_path / "s", {"judge/hook.py": PREPARES}, HOOKED)
    done = subprocess.run(
        [*PROGRAM, "-C", str(top), "data", "fetch"], capture_output=True, text=True, check=True,
        env={**os.environ, "GITRESEARCH_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip

    assert "fetching the text (public domain)" in done.stderr
    assert "sha256:12" in done.stdout


def test_data_that_is_missing_is_said_before_a_trial_is_spent(call: Cli, tmp_path: Path) -> None:
    """`run` asks for the data before the baseline; a folder of one's own is checked by --path."""
    top = study(tmp_path / "s", {"judge/hook.py": LACKS}, HOOKED)

    refused(begin_runs(call, top), "no shards in ''", hint="ls")
    assert json.loads(call("-C", top, "log", "--json").out) == []
    refused(call("-C", top, "data", "fetch", "--path", tmp_path), f"no shards in '{tmp_path}'", hint="ls")


def test_data_of_a_study_without_a_hook(call: Cli, tmp_path: Path) -> None:
    """A recipe that prints its metric brings its own data."""
    refused(call("-C", study(tmp_path / "s"), "data", "fetch"), "no evaluator hook")


def test_a_machine_that_lacks_what_a_study_asks_for(call: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No accelerator where one is asked for ends `run` before the baseline; too little memory is said."""
    monkeypatch.setattr(machine, "has_accelerator", lambda: False)
    poor = TOML.replace("train_seconds", "accelerator = true\ntrain_seconds")
    refused(begin_runs(call, study(tmp_path / "s", toml=poor)), "accelerator", hint="--scale mini")

    large = TOML.replace("train_seconds", "memory_mb = 100_000_000\ntrain_seconds")
    assert "this machine has" in begin_runs(call, study(tmp_path / "t", toml=large)).err


@pytest.mark.parametrize(("torch", "accelerator", "said"), [("2.13.0+cpu", True, 1), ("2.13.0", True, 0), ("", True, 0),
                                                            ("2.13.0+cpu", False, 0)])  # fmt: skip
def test_a_torch_without_accelerators(
    monkeypatch: pytest.MonkeyPatch, torch: str, accelerator: bool, said: int
) -> None:
    """The build for CPUs alone is told of where a study asks for an accelerator, and only there."""
    monkeypatch.setattr(machine, "interpreter", lambda _python: Interpreter((), "3.11", torch))
    found = list(machine.doubts(Budget(accelerator=accelerator, memory_mb=1), "python"))

    assert [line.startswith("torch 2.13.0+cpu finds no accelerator") for line in found] == [True] * said
