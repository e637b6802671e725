"""One execution of a trial with a tiny hook and tiny programs: every way it can end, and what is left behind."""

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from gitresearch import accelerator
from gitresearch.accelerator import Accelerators
from gitresearch.curves import Bar
from gitresearch.errors import GitResearchError
from gitresearch.evaluate import Evaluator, RunResult
from gitresearch.hooks import Hook, HookFault, strict_reply
from gitresearch.outcome import Outcome
from gitresearch.repo import Repo
from gitresearch.sandbox import Sandbox
from gitresearch.stages import Event
from gitresearch.study import Evaluator as Settings
from gitresearch.study import Objective, load
from gitresearch.text import is_safe
from gitresearch.workdir import Workdir, sweep
from tests.build import STUDY, add_trial, git, outcome, plain_repo
from tests.processes import gone

# Scores the number in artefact/model, or asks a predictor for it; `mode` makes it fail in every way a hook can.
HOOK = r"""
import json, os, sys, time
verb = sys.argv[1]
request = json.load(sys.stdin)
fault = request["settings"].get(verb, "")
if fault == "exit":
    sys.exit("the hook's last words")
if fault == "hang":
    import subprocess
    subprocess.Popen(["sleep", request["settings"]["word"]])
    time.sleep(60)
if fault:
    print(fault)
    sys.exit()

def preflight():
    try:
        compile(open(os.path.join(request["tree"], "train.py")).read(), "train.py", "exec")
    except SyntaxError as error:
        return {"status": "preflight_crash", "label": "SyntaxError", "lines": [f"train.py:{error.lineno}", str(error)]}
    if os.path.exists(os.path.join(request["tree"], "huge")):
        return {"status": "size_blocked", "label": "code_too_large", "lines": ["huge"]}
    known = os.path.join(request["tree"], "projected")
    return {"ok": True} | ({"projected_bytes": int(open(known).read())} if os.path.exists(known) else {})

def measure():
    names = os.listdir(request["artefact"])
    paths = [os.path.join(request["artefact"], name) for name in names]
    if any(os.path.islink(path) for path in paths):
        return {"invalid": "a link in the artefact"}
    return {"artefact_bytes": sum(map(os.path.getsize, paths)), "parts": {"files": len(names)}}

def score():
    if "to_trial" in request:
        with open(request["from_trial"]) as into:
            for number in range(3):
                try:
                    os.write(request["to_trial"], b"%d\n" % number)
                except BrokenPipeError:
                    return {"crashed": "the predictor closed its input"}
                line = into.readline()
                if not line:
                    return {"crashed": "the predictor closed its output"}
                try:
                    loss = float(line)
                except ValueError:
                    return {"invalid": "no number: " + line[:50]}
        return {"metrics": {"loss": loss}}
    try:
        return {"metrics": {"loss": float(open(os.path.join(request["artefact"], "model")).read()), "hook": 1}}
    except (OSError, ValueError) as error:
        return {"invalid": str(error)}

reply = {"prepare": dict, "preflight": preflight, "measure": measure, "score": score}[verb]()
try:
    json.dump(reply, sys.stdout)
except ValueError:
    pass
"""
GOOD = """
import os
open(os.path.join(os.environ["GITRESEARCH_ARTEFACT"], "model"), "w").write("0.5")
print("loss: 0.001")
"""
STUDY_TOML = """
name = "demo"
[recipe]
train = "python train.py"
{recipe}
[objective]
metric = "loss"
[budget]
clock = "wall"
train_seconds = 20
eval_seconds = 20
{budget}
[evaluator]
{evaluator}
[[specialists]]
name = "one"
surface = ["**"]
"""
SETTINGS = 'hook = "hooks/hook.py"\nhook_seconds = {seconds}\n[evaluator.settings]\n{settings}'
SPIN = "import sys\nwhile True: pass"
PREDICTOR = "import sys\nfor line in sys.stdin: print(0.25, flush=True)\n"


@pytest.fixture
def box() -> Sandbox:
    """The strongest level here; what is tested holds at both."""
    program = shutil.which("bwrap")
    return Sandbox("bubblewrap", "bubblewrap", program) if program else Sandbox("none", "limits only")


@dataclass
class Bench:
    """A study begun in a real repository, and what it takes to run a trial of it."""

    repo: Repo
    evaluator: Evaluator
    events: list[Event]

    def run(
        self, train: str = GOOD, files: Mapping[str, str] | None = None, cancel: threading.Event | None = None
    ) -> RunResult:
        edits = {"train.py": train.encode()} | {name: text.encode() for name, text in (files or {}).items()}
        trial = add_trial(self.repo, "try this", edits=edits)
        return self.evaluator.run(trial, 7, "screen", cancel)

    def leftovers(self) -> list[str]:
        return [path.name for path in (self.evaluator.cache / "work").iterdir() if "-run-" in path.name]


Make = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path, box: Sandbox) -> Iterator[Make]:
    """Makes a bench: of the hook's settings, more lines for [recipe] and [budget], a pattern instead of the hook."""
    made: list[Evaluator] = []

    def make(
        recipe: str = "", budget: str = "", pattern: str = "", hook_seconds: float = 30, level: Sandbox = box,
        files: Mapping[str, str] | None = None, **settings: str,
    ) -> Bench:  # fmt: skip
        told = "\n".join(f"{name} = '''{value}'''" for name, value in settings.items())
        evaluator = f"pattern = '''{pattern}'''" if pattern else SETTINGS.format(seconds=hook_seconds, settings=told)
        if "eval_seconds" in budget or "train_seconds" in budget:
            names = [row.split(" ")[0] for row in budget.split("\n")]
            base = "\n".join(row for row in STUDY_TOML.split("\n") if row.split(" ")[0] not in names)
        else:
            base = STUDY_TOML
        study = load(base.format(recipe=recipe, budget=budget, evaluator=evaluator))
        content = {"train.py": "pass\n", "hooks/hook.py": HOOK, "predict.py": PREDICTOR} | dict(files or {})
        top = plain_repo(tmp_path / "repo", {name: text.encode() for name, text in content.items()})
        repo = Repo.open(top, durable=False)
        repo.pin_study(STUDY, repo.head_commit())
        events: list[Event] = []
        runner = Evaluator(repo, study, repo.head_commit(), level, tmp_path / "cache", events.append)
        made.append(runner)
        runner.prepare()
        return Bench(repo, runner, events)

    yield make
    for runner in made:
        runner.close()


def failed(result: RunResult, status: str, phase: str, label: str) -> str:
    """The failure's lines as one text, after status, phase and label are as expected."""
    assert result.failure is not None
    assert (result.run.status, result.failure.phase, result.failure.label) == (status, phase, label)
    assert result.run.metrics == {}
    return "\n".join(result.failure.lines)


def test_ok(bench: Make) -> None:
    """A good run: the hook's metric, sizes and seconds, every phase told, facts that bind it, nothing left behind."""
    made = bench()

    result = made.run()

    assert (result.run.status, result.failure) == ("ok", None)
    assert result.run.metrics == {"loss": 0.5, "hook": 1.0}
    assert result.run.artefact_bytes == 3
    assert 0 < result.run.train_seconds < result.run.wall_seconds
    assert (result.run.seed, result.run.purpose) == (7, "screen")
    assert result.environment["trust"] == "scored"
    assert result.environment["python"] == platform.python_version()
    assert str(result.binding["hook"]).startswith("sha256:")
    assert list(dict.fromkeys(event.phase for event in made.events)) == ["preflight", "train", "score", "done"]
    assert made.leftovers() == []


def test_a_study_may_be_scored_by_what_is_measured_here(bench: Make) -> None:
    """The evaluator's own seconds are the metric."""
    made = bench()
    made.evaluator.study = replace(made.evaluator.study, objective=Objective("train_seconds"))

    run = made.run().run

    assert run.metrics == {"loss": 0.5, "hook": 1.0, "train_seconds": run.train_seconds}
    assert run.train_seconds > 0


def test_a_study_scored_by_all_its_time_counts_predicting_too(bench: Make) -> None:
    """`total_seconds` is training and predicting together, so that work moved from one to the other gains nothing."""
    made = bench(recipe='predict = "python predict.py"')
    made.evaluator.study = replace(made.evaluator.study, objective=Objective("total_seconds"))

    run = made.run().run

    assert run.metrics["total_seconds"] == pytest.approx(run.train_seconds + run.eval_seconds, abs=0.002)
    assert run.metrics["total_seconds"] > max(run.train_seconds, run.eval_seconds) > 0


def test_a_data_folder_is_meant_from_where_its_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook runs in a folder of its own, where `data` would be another; a name that is empty names none."""
    (tmp_path / "hook").mkdir()
    program = tmp_path / "hook" / "hook.py"
    program.write_text(
        "import json, os, sys\nsys.stdin.read()\n"
        "print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('GITRESEARCH_DATA_')}))"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITRESEARCH_DATA_ONE", "data")
    monkeypatch.setenv("GITRESEARCH_DATA_TWO", "")
    found = Hook(program, {}, 20).call("prepare", {})
    assert (found["GITRESEARCH_DATA_ONE"], found["GITRESEARCH_DATA_TWO"]) == (str(tmp_path / "data"), "")


def test_a_hook_measures_nothing_of_the_evaluators(bench: Make) -> None:
    """One that gives a number by such a name has failed: it would stand for the clock."""
    made = bench(files={"hooks/hook.py": HOOK.replace('"hook": 1', '"train_seconds": 0.01')})

    assert "the evaluator's to measure" in failed(made.run(), "harness_abort", "hook", "HookFault")


def test_what_a_trial_is_told(bench: Make) -> None:
    """The program finds its seed and budget in its environment, and nothing that tells screening from confirming."""
    made = bench()
    code = "import os, sys; sys.exit('\\n'.join(k + '=' + v for k, v in os.environ.items()))"

    told = failed(made.run(code), "crash", "train", "exit_1")

    assert "GITRESEARCH_SEED=7" in told
    assert "screen" not in told


def test_printed_metrics_count_for_nothing(bench: Make) -> None:
    """A program that prints every metric line it knows of and leaves no model has no score."""
    code = "print('loss: 0.0'); print('{\"metrics\": {\"loss\": 0.0}}'); print('val_bpb:0.1')"

    assert "model" in failed(bench().run(code), "invalid", "score", "prediction")


def test_crash(bench: Make) -> None:
    """An exception is named, with the deepest frame in the trial's own files."""
    code = "import helper\nhelper.work()\n"

    told = failed(bench().run(code, {"helper.py": "def work():\n    [][3]\n"}), "crash", "train", "IndexError")

    assert "helper.py" in told
    assert "line 2" in told
    assert told.endswith("IndexError: list index out of range")


@pytest.mark.slow
def test_crash_by_signal(bench: Make) -> None:
    """A program that a signal ends is labelled by it."""
    told = failed(bench().run("import os\nprint('hello', flush=True)\nos.abort()"), "crash", "train", "SIGABRT")

    assert "hello" in told


def test_preflight_crash(bench: Make) -> None:
    """A file that doesn't parse costs no training."""
    result = bench().run("def broken(:\n")

    assert "train.py:1" in failed(result, "preflight_crash", "preflight", "SyntaxError")
    assert result.run.train_seconds == 0


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"train.py": b"x = 1\n"}, ""),
        ({"train.py": b"def broken(:\n"}, "preflight_crash: train.py:1; "),
        ({"train.py": b"", "huge": b"x"}, "size_blocked: huge"),
        ({"train.py": b"", "../out": b"x"}, "preflight_crash: '../out' is no path"),
        ({"train.py": b"", "/tmp/out": b"x"}, "preflight_crash: '/tmp/out' is no path"),
    ],
)
def test_files_that_are_no_trial_yet_have_a_preflight(bench: Make, files: Mapping[str, bytes], told: str) -> None:
    """An agent learns what the hook would refuse before it submits, and nothing is left behind or written elsewhere."""
    made = bench()
    assert made.evaluator.foresee(files).startswith(told)
    assert bool(made.evaluator.foresee(files)) == bool(told)
    assert not [path for path in (made.evaluator.cache / "work").rglob("*") if path.name in ("out", "huge", "train.py")]


def test_a_preflight_needs_no_data(bench: Make, box: Sandbox, tmp_path: Path) -> None:
    """It works where nothing was prepared, and says nothing where the study has no hook or the hook is at fault."""
    made = bench()
    broken = {"train.py": b"def broken(:\n"}
    with closing(Evaluator(made.repo, made.evaluator.study, made.evaluator.base, box, tmp_path / "other")) as other:
        assert other.foresee(broken).startswith("preflight_crash")
        assert other.hook is not None
        other.hook.settings["preflight"] = "exit"
        assert other.foresee(broken) == ""
    study = replace(made.evaluator.study, evaluator=Settings(pattern="(.*)"))
    with closing(Evaluator(made.repo, study, made.evaluator.base, box, tmp_path / "third")) as third:
        assert third.foresee(broken) == ""


def test_a_tree_that_cannot_be_written(bench: Make) -> None:
    """A tree with a symbolic link in it ends before anything is written, as the trial's failure."""
    made = bench()
    blob = git(made.repo, "hash-object", "-w", "--stdin", check=False) or ""
    tree = subprocess.run(
        ["git", "-C", str(made.repo.git_dir), "mktree"], input=f"120000 blob {blob.strip()}\ttrain.py\n",
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    oid = git(made.repo, "commit-tree", tree, "-m", "a link").strip()

    result = made.evaluator.run(SimpleNamespace(oid=oid, tree=tree, short=oid[:8]), 1, "screen")  # type: ignore[arg-type]

    assert "symbolic link" in failed(result, "preflight_crash", "preflight", "BadTree")


def test_a_full_disk_is_no_trials_fault(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the files can't be written for lack of space, the run is aborted and the trial not blamed."""
    made = bench()

    def export(commit: str, root: str, dest: Path) -> None:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise GitResearchError("cannot write: the disk is full") from error

    monkeypatch.setattr(made.evaluator.source, "export", export)

    assert "the disk is full" in failed(made.run(), "harness_abort", "harness", "Export")


def test_size_blocked(bench: Make) -> None:
    """An artefact over its cap ends the run before a score is taken; the lines say by how much."""
    told = failed(bench(budget="artefact_bytes = 2").run(), "size_blocked", "measure", "artefact_too_large")

    assert "3 bytes, 1 over the cap of 2" in told


def test_size_blocked_before_training(bench: Make) -> None:
    """What the hook blocks in preflight costs no training."""
    result = bench().run(GOOD, {"huge": "x"})

    assert failed(result, "size_blocked", "preflight", "code_too_large") == "huge"
    assert result.run.train_seconds == 0


@pytest.mark.parametrize(
    ("clock", "code", "label"), [("wall", "import time; time.sleep(60)", "wall"), ("cpu", "while True: pass", "cpu")]
)
def test_train_budget_overrun(bench: Make, clock: str, code: str, label: str) -> None:
    """The parent's clock ends training, by wall or by CPU seconds, whatever the program thinks the time is."""
    result = bench(budget=f'clock = "{clock}"\ntrain_seconds = 0.5').run(code)

    assert "stopped after" in failed(result, "train_budget_overrun", "train", f"{label}_budget")
    assert 0.5 <= result.run.train_seconds < 3


@pytest.mark.parametrize(
    ("budget", "code", "label"),
    [
        ("memory_mb = 100", "import time\nx = bytearray(b'x') * (300 << 20)\ntime.sleep(30)", "memory"),
        pytest.param("log_mb = 1", "while True: print('x' * 1000)", "log", marks=pytest.mark.slow),
        pytest.param(
            "disk_mb = 5",
            "open('a', 'wb').write(b'x' * (4 << 20)); open('b', 'wb').write(b'x' * (4 << 20))",
            "disk",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "processes = 9",
            "import os, time\nfor _ in range(5): os.fork()\ntime.sleep(30)",
            "processes",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_resource_limit(bench: Make, budget: str, code: str, label: str) -> None:
    """Each limit of the budget ends the run by its name."""
    assert "MiB" in failed(bench(budget=budget).run(code), "resource_limit", "train", label)


@pytest.mark.slow
def test_a_nested_artefact(bench: Make) -> None:
    """An artefact nested deeper than a walk can go ends the run, not the evaluator, and is removed."""
    made = bench()
    code = "import os\nos.chdir(os.environ['GITRESEARCH_ARTEFACT'])\nfor i in range(1200): os.mkdir('d'); os.chdir('d')"

    failed(made.run(code), "resource_limit", "train", "disk")
    assert made.leftovers() == []


def test_invalid_artefact(bench: Make) -> None:
    """What the hook refuses while it measures is invalid, not a crash."""
    code = "import os; os.symlink('/etc/passwd', os.environ['GITRESEARCH_ARTEFACT'] + '/model')"

    assert "a link" in failed(bench().run(code), "invalid", "measure", "artefact")


@pytest.mark.slow
def test_invalid_score(bench: Make) -> None:
    """What the hook can't score is invalid; its words are cleaned."""
    code = GOOD.replace("0.5", "\\x1b[31mnot a number")

    told = failed(bench().run(code), "invalid", "score", "prediction")

    assert "not a number" in told
    assert is_safe(told)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["preflight", "measure", "score"])
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("exit", "the hook's last words"),
        ("hello", "printed no reply we can read"),
        ("[1]", "no object"),
        ('{"metrics": {"loss": 1}, "metrics": {"loss": 0}}', "a key stands twice"),
        ('{"metrics": {"loss": NaN}}', "not finite"),
        ('{"metrics": {"loss": 1e999}}', "not finite"),
        ('{"metrics": {"loss": 1' + "0" * 400 + "}}", "63 bits"),
        ("[" * 100_000, "no reply we can read"),
        ("{}", "the hook's"),
        ('{"metrics": {"loss": true}, "artefact_bytes": true}', "the hook's"),
        ('{"metrics": {"other": 1.0}, "ok": 1}', ""),
    ],
    ids=["exit", "rubbish", "list", "twice", "nan", "infinity", "huge", "deep", "empty", "bool", "other"],
)
def test_harness_abort(bench: Make, verb: str, fault: str, told: str) -> None:
    """Whatever the hook does wrong is ours: the run is aborted, the trial not blamed, the hook's words kept."""
    made = bench(**{verb: fault})

    assert told in failed(made.run(), "harness_abort", "hook", "HookFault")
    assert made.leftovers() == []


@pytest.mark.parametrize("fault", ["exit", "hello"])
def test_a_hook_that_fails(bench: Make, fault: str) -> None:
    """The short of it: a hook that crashes or prints rubbish while it scores aborts the run."""
    failed(bench(score=fault).run(), "harness_abort", "hook", "HookFault")


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ("hello", "no reply we can read"),
        ("[1]", "no object"),
        ('{"a": 1, "a": 2}', "a key stands twice"),
        ('{"a": {"b": NaN}}', "not finite"),
        ('{"a": -Infinity}', "not finite"),
        ('{"a": 1e999}', "not finite"),
        ('{"a": 1' + "0" * 400 + "}", "63 bits"),
        ('{"a": 9223372036854775808}', "63 bits"),
        ("[" * 100_000, "no reply we can read"),
        ('{"a": "' + "x" * (1 << 20) + '"}', "longer than"),
        ("\xff", "no reply we can read"),
    ],
)
def test_replies_are_read_strictly(reply: str, told: str) -> None:
    """What JSON readers let pass and no evaluator means is refused."""
    with pytest.raises(HookFault, match=told):
        strict_reply(reply.encode("latin-1"), "score")


def test_a_good_reply_is_read() -> None:
    """Numbers of every kind come through as they are."""
    reply = {"metrics": {"loss": -1.5e-7, "n": -(2**63) + 1}, "ok": True, "parts": {}}

    assert strict_reply(json.dumps(reply).encode(), "score") == reply


@pytest.mark.parametrize("verb", [pytest.param("measure", marks=pytest.mark.slow), "score"])
@pytest.mark.slow
def test_a_hook_that_hangs(bench: Make, verb: str) -> None:
    """A hook that gives no answer in time is ended with what it started, and the run aborted."""
    word = f"971.{os.getpid()}"
    made = bench(hook_seconds=1, word=word, **{verb: "hang"})
    began = time.monotonic()

    assert "no answer in 1 s" in failed(made.run(), "harness_abort", "hook", "HookFault")
    assert time.monotonic() - began < 6
    assert gone(word, 2.0)


@pytest.mark.slow
def test_a_hook_is_cancelled(bench: Make) -> None:
    """Cancelling ends a hook that works, not only the trial's program."""
    word, cancel = f"972.{os.getpid()}", threading.Event()
    made = bench(word=word, measure="hang")
    timer = threading.Timer(1.0, cancel.set)
    timer.start()
    began = time.monotonic()

    assert "was cancelled" in failed(made.run(cancel=cancel), "harness_abort", "hook", "HookFault")
    assert time.monotonic() - began < 6
    assert gone(word, 2.0)
    timer.join()


def test_a_hook_is_asked_however_busy_the_machine_is(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where our first look at a hook comes too late to have written anything, it gets its request all the same."""
    communicate, late = subprocess.Popen.communicate, set[int]()

    def first_too_late(
        self: subprocess.Popen[bytes], given: bytes | None = None, timeout: float | None = None
    ) -> object:
        first = self.pid not in late
        late.add(self.pid)
        return communicate(self, given, -1.0 if first else timeout)

    made = bench(hook_seconds=20)
    monkeypatch.setattr("gitresearch.hooks._Popen.communicate", first_too_late)
    found = made.run()

    assert (found.run.status, found.failure) == ("ok", None)


@pytest.mark.parametrize("fault", ["exit", "hello"])
def test_a_hook_that_cannot_prepare(bench: Make, fault: str) -> None:
    """Before anything runs, the hook's failure is an error that names it."""
    with pytest.raises(GitResearchError, match="the hook's prepare"):
        bench(prepare=fault)


def test_data_that_went_away(bench: Make, box: Sandbox, tmp_path: Path) -> None:
    """Where a trial's world can't be made, that is our fault, not the trial's crash."""
    if box.level == "none":
        pytest.skip("nothing is mounted without a sandbox")
    made = bench()
    made.evaluator.data = {"train": tmp_path / "gone"}

    assert "bwrap: Can't find" in failed(made.run(), "harness_abort", "harness", "Sandbox")


def test_no_space_left(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that fails where the disk is full may have failed for that: not its fault."""
    made = bench()
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=0))

    assert "no space left" in failed(made.run("raise OSError(28, 'No space')"), "harness_abort", "harness", "NoSpace")
    assert made.run().run.status == "ok"


@pytest.mark.parametrize("train", ["", "/usr"])
def test_held_out_data_among_what_is_shown(bench: Make, tmp_path: Path, train: str) -> None:
    """Labels below the training data, or below what every trial sees, are refused before anything runs."""
    shown = train or str(tmp_path)
    hook = HOOK.replace('"prepare": dict', f'"prepare": lambda: dict(train={shown!r}, held_out={shown + "/share"!r})')

    with pytest.raises(GitResearchError, match=r"trials would see the held-out data in .*/share"):
        bench(files={"hooks/hook.py": hook})


@pytest.mark.parametrize("level", ["bubblewrap", "none"])
def test_a_program_that_is_not_there(bench: Make, box: Sandbox, level: str) -> None:
    """A trial that removed the script it is started by crashes, whatever the sandbox; the search goes on."""
    used = Sandbox("none", "") if level == "none" else box
    result = bench(recipe='predict = "./missing.sh"', level=used).run()

    assert result.run.status == "crash"
    assert result.failure is not None
    assert "missing.sh" in "".join(result.failure.lines)


def test_a_hook_that_says_what_it_lacks(bench: Make) -> None:
    """An error that prepare replies with becomes the sentence and the command to type."""
    with pytest.raises(GitResearchError) as caught:
        bench(prepare='{"error": "there is no data; try: make data"}')

    assert (caught.value.message, caught.value.hint) == ("there is no data", "make data")


def test_the_hook_is_the_base_commits(bench: Make) -> None:
    """A trial that rewrites the hook in its own tree is judged by the study's."""
    made = bench()
    digest = made.evaluator.hook.digest if made.evaluator.hook else ""

    result = made.run(GOOD, {"hooks/hook.py": 'print(\'{"metrics": {"loss": 0.0}}\')'})

    assert result.run.metrics["loss"] == 0.5
    assert result.binding["hook"] == digest


@pytest.mark.slow
def test_training_cannot_reach_the_hook(bench: Make) -> None:
    """Nothing of the hook, its folder or the run's other folders can be seen from inside."""
    made = bench()
    if made.evaluator.box.level == "none":
        pytest.skip("bubblewrap is not installed")
    code = "import os, sys; sys.exit(' '.join(p for p in sys.argv[1:] if os.path.exists(p)) + ' none')"
    paths = " ".join(f"'{path}'" for path in (made.evaluator.cache, made.evaluator.cache / "work", made.repo.git_dir))
    code = f"import sys; sys.argv[1:] = [{paths.replace(' ', ', ')}]\n" + code

    told = failed(made.run(code), "crash", "train", "exit_1")

    assert told.split("\n")[0].strip() == "none"


# An accelerator in somebody else's use


class Crowded(Accelerators):
    """Somebody else is there at these looks."""

    def __init__(self, *looks: bool) -> None:
        super().__init__()
        self.looks = list(looks)

    def others(self) -> tuple[str, ...]:
        return ("process 1 uses 4000 MiB",) if self.looks and self.looks.pop(0) else ()


@pytest.mark.slow
def test_somebody_else_on_the_accelerator(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a run they are waited for, in time or not; after it its clock is spoilt. Either way the trial is not
    blamed, and a spoilt run has no score. A clock of CPU seconds is not spoilt by them."""
    monkeypatch.setattr(accelerator, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(accelerator, "SETTLE_SECONDS", 0.01)
    made = bench()
    made.evaluator.accelerators = Crowded(True, False, False)
    assert made.run().run.status == "ok"
    assert next(event.phase for event in made.events) == "in use"

    made.evaluator.accelerators = Crowded(False, *[True] * 9)
    failed(made.run(), "harness_abort", "harness", "accelerator_in_use")
    made.evaluator.accelerators = Crowded(False, *[True] * 9)
    failed(made.run("raise ValueError"), "harness_abort", "harness", "accelerator_in_use")

    monkeypatch.setattr(accelerator, "WAIT_SECONDS", 0.0)
    made.evaluator.accelerators = Crowded(*[True] * 9)
    made.events.clear()
    failed(made.run(), "harness_abort", "harness", "accelerator_in_use")
    assert [event.phase for event in made.events] == ["done"]
    budget = replace(made.evaluator.study.budget, clock="cpu")
    made.evaluator.study = replace(made.evaluator.study, budget=budget)
    assert made.run().run.status == "ok"


# Warming up

READY = """
import os
ready = int(os.environ["GITRESEARCH_READY"])
os.write(ready, b"1")
os.read(ready, 1)
"""
WITH_DATA = HOOK.replace('"prepare": dict', '"prepare": lambda: dict(train=request["settings"]["train"])')


def test_the_clock_starts_with_the_data(bench: Make, tmp_path: Path) -> None:
    """A program warms up before an empty folder; with its data its clock starts. Both times are in the note."""
    (tmp_path / "train/deep").mkdir(parents=True)
    (tmp_path / "train/deep/words").write_text("0.25")
    made = bench(budget="warmup_seconds = 10", files={"hooks/hook.py": WITH_DATA}, train=str(tmp_path / "train"))
    code = f"""
import os, time
place = os.environ["GITRESEARCH_DATA"]
assert os.listdir(place) == []
time.sleep(0.4)
{READY}
assert os.listdir(place) == ["deep"]
open(os.environ["GITRESEARCH_ARTEFACT"] + "/model", "w").write(open(place + "/deep/words").read())
"""
    result = made.run(code)

    assert (result.run.status, result.run.metrics.get("loss"), result.failure) == ("ok", 0.25, None)
    assert result.run.warmup_seconds >= 0.4
    assert result.run.train_seconds < result.run.warmup_seconds < result.run.wall_seconds
    note = replace(outcome(), runs=(result.run,)).note()
    assert Outcome.parse(note).runs == (result.run,)
    assert b"warmup" not in outcome().note()
    assert (tmp_path / "train/deep/words").read_text() == "0.25"


def test_a_program_that_is_never_ready(bench: Make) -> None:
    """One that ends without a word crashed, and one that warms up for too long overran; neither trained."""
    made = bench(budget="warmup_seconds = 0.4")
    assert "was never given its data" in failed(made.run(GOOD), "crash", "train", "never_ready")

    result = made.run("import time; time.sleep(5)")

    assert "was not ready" in failed(result, "train_budget_overrun", "train", "warmup_budget")
    assert result.run.train_seconds == 0 < result.run.warmup_seconds


# Progress

SAYS = """
import os, time
def say(*words):
    os.write(int(os.environ["GITRESEARCH_PROGRESS"]), (" ".join(map(str, words)) + "\\n").encode())
"""


CURVE = "for n in range(21): say(n, 20, 4); time.sleep(0.1)\n" + GOOD


@pytest.mark.parametrize(
    ("code", "status", "label"),
    [
        ("for n in range(900): say(n, 10**9, 2.5); time.sleep(0.01)", "train_budget_overrun", "projected"),
        ("for n in range(99): say(n, 99, 'nan'); time.sleep(0.1)", "crash", "not_finite"),
        pytest.param("say(0, 9); time.sleep(9)", "train_budget_overrun", "no_first_step", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_certain_to_be_waste(bench: Make, code: str, status: str, label: str) -> None:
    """It ends as soon as that is known, and what that spared is on record with its reason."""
    result = bench(budget="train_seconds = 3").run(SAYS + code)
    failed(result, status, "train", label)
    assert 0 < result.run.train_seconds < 2.5
    assert 0 < result.run.saved_seconds <= 3
    assert result.run.saved_by == label
    assert Outcome.parse(replace(outcome(), runs=(result.run,)).note()).runs == (result.run,)


@pytest.mark.slow
def test_a_run_that_cannot_win_any_more(bench: Make) -> None:
    """It ends at the mark where its curve is out of reach, and the note tells by what; its curve is on record too."""
    made = bench(budget="train_seconds = 9")
    bar = Bar(made.evaluator.study.objective, 2.0, (-1.0,) * 9, slack=0.5, known=9, level=0.1)
    trial = add_trial(made.repo, "try", edits={"train.py": (SAYS + CURVE).encode()})
    result = made.evaluator.run(trial, 7, "screen", None, bar)
    assert "at best" in failed(result, "early_stop", "train", "curve")
    assert (result.run.curve, result.run.foretold, result.run.saved_by) == ((4.0,) * 3, 0.3, "early_stop")
    assert 0 < result.run.saved_seconds < 9
    assert Outcome.parse(replace(outcome(), runs=(result.run,)).note()).runs == (result.run,)
    let_on = made.evaluator.run(trial, 7, "screen", None, replace(bar, let_on=True)).run
    assert (let_on.status, let_on.foretold, len(let_on.curve), let_on.saved_by) == ("ok", 0.3, 9, "")


def test_bytes_that_past_trials_foretell(bench: Make) -> None:
    """What the hook reckons with is on record, and a trial that is too large by it trains only where it is let on."""
    made = bench(budget="artefact_bytes = 100")
    bar = Bar(made.evaluator.study.objective, 2.0, known=9, level=0.1, lightest=0.5)
    trial = add_trial(made.repo, "try", edits={"train.py": GOOD.encode(), "projected": b"300"})
    result = made.evaluator.run(trial, 7, "screen", None, bar)
    assert "at least 150" in failed(result, "size_blocked", "preflight", "foretold_too_large")
    assert (result.run.projected_bytes, result.run.train_seconds) == (300, 0)
    for one in (None, replace(bar, let_on=True), replace(bar, lightest=0.2)):
        run = made.evaluator.run(trial, 7, "screen", None, one).run
        assert (run.status, run.projected_bytes, bool(run.foretold)) == ("ok", 300, bool(one and one.let_on))
    odd = made.run(files={"projected": "-1"})
    assert odd.run.status == "harness_abort"


def test_what_a_run_says_is_shown_and_counts_for_nothing(bench: Make) -> None:
    """Share and loss are told to whoever watches; score and status are as without them, and nothing was saved."""
    made = bench()
    result = made.run(SAYS + "say(1, 4, 0.001)\ntime.sleep(0.8)\n" + GOOD)
    assert (result.run.status, result.run.metrics["loss"], result.run.saved_by) == ("ok", 0.5, "")
    assert (0.25, 0.001) in {(event.share, event.metric) for event in made.events}
    assert {event.share for event in made.events if event.phase != "train"} == {None}
    assert b"saved" not in replace(outcome(), runs=(result.run,)).note()


def test_what_is_said_before_the_clock_starts_is_about_no_task(bench: Make) -> None:
    """A program may try its steps on made-up data, at any rate and with any loss."""
    code = SAYS + "for n in range(9): say(n, 10**9, 'nan')\ntime.sleep(0.4)\n" + READY + GOOD
    assert bench(budget="warmup_seconds = 10").run(code).run.status == "ok"


def test_a_blocked_run_spares_what_the_last_one_took(bench: Make) -> None:
    """Known once a run has ended well; a size that preflight finds costs nothing."""
    made = bench()
    assert made.run(files={"huge": ""}).run.saved_by == ""
    spent = made.run("import time; time.sleep(0.2)\n" + GOOD).run
    blocked = made.run(files={"huge": ""}).run
    assert (blocked.saved_seconds, blocked.saved_by) == (spent.train_seconds + spent.eval_seconds, "preflight")


# Predictors


def test_a_predictor_is_asked(bench: Make) -> None:
    """With a predict command the hook talks to the program; what it spent is counted as evaluation."""
    result = bench(recipe='predict = "python predict.py"').run()

    assert (result.run.status, result.run.metrics) == ("ok", {"loss": 0.25})
    assert result.run.eval_seconds > 0


@pytest.mark.slow
def test_a_predictor_sees_no_training_leftovers(bench: Make) -> None:
    """A file that training leaves beside its code is gone when predictions are made: only the artefact counts."""
    predict = "import os, sys\nfound = os.path.exists('memo')\nfor line in sys.stdin: print(float(found), flush=True)"

    result = bench(recipe='predict = "python predict.py"').run(
        GOOD + "open('memo', 'w').write('x')", {"predict.py": predict}
    )

    assert result.run.metrics == {"loss": 0.0}


@pytest.mark.parametrize(
    ("code", "label"),
    [
        ("import sys; sys.exit('no model')", "exit_1"),
        ("import sys; input(); print(1.0); sys.exit(0)", "prediction"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("import os; os.close(0); os.close(1)", "prediction"),
                ("import os; input(); os.abort()", "SIGABRT"),
                ("input(); {}['x']", "KeyError"),
            )
        ),
    ],
)
def test_a_predictor_that_ends_early(bench: Make, code: str, label: str) -> None:
    """A predictor that goes away before it was asked everything crashed, by its own exception where it had one; what
    the hook saw of it is told too."""
    made = bench(recipe='predict = "python predict.py"')
    assert "predictor closed" in failed(made.run(GOOD, {"predict.py": code}), "crash", "score", label)


def test_a_predictor_that_answers_rubbish(bench: Make) -> None:
    """Predictions that are no numbers are invalid, even where the predictor breaks when the hook hangs up."""
    code = "import sys, time\nwhile True: print('hello', flush=True); time.sleep(0.02)"

    told = failed(
        bench(recipe='predict = "python predict.py"').run(GOOD, {"predict.py": code}), "invalid", "score", "prediction"
    )

    assert "no number: hello" in told


@pytest.mark.parametrize(
    "code",
    ["import time; time.sleep(60)", *(pytest.param(c, marks=pytest.mark.slow) for c in ("while True: input()", SPIN))],
)
def test_a_predictor_that_never_answers(bench: Make, code: str) -> None:
    """It meets the evaluation's limit, and what the hook still waited for is told; nothing hangs."""
    made = bench(recipe='predict = "python predict.py"', budget="eval_seconds = 0.6")
    began = time.monotonic()

    result = made.run(GOOD, {"predict.py": code})

    if "input" in code:  # it took what there was and waits for more, or saw the end
        assert result.run.status in ("crash", "eval_budget_overrun")
    else:
        assert "closed its output" in failed(result, "eval_budget_overrun", "score", "wall_budget")
    assert time.monotonic() - began < 8


@pytest.mark.slow
def test_a_hook_that_breaks_before_its_predictor(bench: Make) -> None:
    """A hook that fails at once is our fault, even though the predictor then waits until it is stopped."""
    made = bench(recipe='predict = "python predict.py"', budget="eval_seconds = 0.6", score="exit")

    result = made.run(GOOD, {"predict.py": "import time; time.sleep(60)"})

    assert "last words" in failed(result, "harness_abort", "hook", "HookFault")


# Self-reported studies


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('loss: 3'); print('loss: 2.5'); print('bye')", 2.5),
        ("import sys; print('loss: 1e-3', file=sys.stderr)", 0.001),
        ("print('\\xff\\xfe'); print('loss: 4')", 4.0),
    ],
)
def test_self_reported(bench: Make, code: str, expected: float) -> None:
    """Without a hook the last match of the pattern is the metric, and the outcome says whose word it is."""
    result = bench(pattern=r"loss: (\S+)").run(code)

    assert (result.run.status, result.run.metrics) == ("ok", {"loss": expected})
    assert result.environment["trust"] == "self-reported"


@pytest.mark.parametrize(
    ("code", "status", "label"),
    [
        ("print('done')", "crash", "no_metric"),
        ("print('loss: 0.5'); print('loss: nan')", "crash", "not_finite"),
        ("print('loss: inf')", "crash", "not_finite"),
        ("print('loss: low')", "invalid", "no_number"),
    ],
)
def test_self_reported_without_a_number(bench: Make, code: str, status: str, label: str) -> None:
    """No match, a match that is no number, and one that is not finite each have a name of their own."""
    failed(bench(pattern=r"loss: (\S+)").run(code), status, "score", label)


def test_a_pattern_measures_one_metric() -> None:
    """A gate on a metric that nothing measures is found when the study is read, not when every trial misses it."""
    base = STUDY_TOML.format(recipe="", budget="", evaluator="pattern = 'loss: (.*)'")

    with pytest.raises(GitResearchError, match="gates asks for 'speed', and a pattern"):
        load(base + "[[gates]]\nmetric = 'speed'\nat_least = 2\n")


def test_a_hostile_log_is_cleaned(bench: Make) -> None:
    """Escape sequences, controls and overrides that a program prints don't reach the outcome."""
    code = "print('\\x1b]0;owned\\x07\\x1b[2J\\u202ereversed\\x00\\x9b'); raise ValueError('\\x1b[31mred')"

    told = failed(bench().run(code), "crash", "train", "ValueError")

    assert is_safe(told.replace("\n", ""))
    assert told.endswith("ValueError: red")


# What is left


OWNER = """
import sys, time
from pathlib import Path
from gitresearch.workdir import Workdir
mine = Workdir(Path(sys.argv[1]))
(mine.folder("run") / "deep").mkdir()
print(mine.owner, flush=True)
time.sleep(60)
"""


def test_leftovers_of_the_dead_are_swept(tmp_path: Path) -> None:
    """Folders of a killed process go when the next one starts; those of living ones, and what isn't ours, stay."""
    others = [subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], stdout=subprocess.PIPE) for _ in range(2)]
    dead, alive = (process.stdout.readline().decode().strip() for process in others if process.stdout)
    (tmp_path / "other").mkdir()
    (tmp_path / "ownabc-run-without-a-lock").mkdir()
    mine = Workdir(tmp_path)
    theirs = mine.folder("run")
    assert list(tmp_path.glob(f"{dead}-*"))  # its owner lives
    assert not list(tmp_path.glob("ownabc*"))

    others[0].kill()
    others[0].communicate()
    Workdir(tmp_path).close()

    assert not list(tmp_path.glob(f"{dead}*"))
    assert list(tmp_path.glob(f"{alive}-*"))
    assert theirs.exists()
    mine.close()
    others[1].kill()
    others[1].communicate()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_locks_that_are_swept_as_they_are_made(tmp_path: Path) -> None:
    """Many starting at once never lose a folder that is in use, and leave nothing."""

    def start(_number: int) -> bool:
        for _ in range(20):
            mine = Workdir(tmp_path)
            with mine.borrowed("run") as folder:
                sweep(tmp_path)
                kept = folder.exists()
            mine.close()
            if not kept:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(start, range(8)))
    assert list(tmp_path.iterdir()) == []


LOCKED = "import os\nos.makedirs('d/e'); open('d/e/f', 'w').close(); os.chmod('d/e', 0); os.chmod('d', 0)\n"
AS_NOBODY = """
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
from gitresearch.workdir import remove
top = Path(sys.argv[1])
os.chdir(top)
os.mkdir("run"); os.chdir("run")
os.symlink("/etc", "link")
exec({code!r})
os.chdir(top)
remove(top / "run")
sys.exit((top / "run").exists())
"""


def test_a_folder_that_a_trial_locked_is_removed(tmp_path: Path) -> None:
    """A trial can take away its folders' modes; they are removed all the same."""
    script = AS_NOBODY.format(path=sys.path, code=LOCKED)
    become = []
    if os.getuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root removes anything, and setpriv is not installed")
        drop = "--inh-caps=-all", "--bounding-set=-all"
        become = ["setpriv", *drop, "--"]
    done = subprocess.run(
        [*become, sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_cancel_leaves_nothing(bench: Make) -> None:
    """A cancelled run has no score and leaves no process, no folder and no hook behind."""
    word, cancel = f"973.{os.getpid()}", threading.Event()
    others = set(psutil.Process().children())
    made = bench()
    timer = threading.Timer(0.8, cancel.set)
    timer.start()

    result = made.run(f"import subprocess\nsubprocess.run(['sleep', '{word}'])", cancel=cancel)
    timer.join()
    made.evaluator.close()

    failed(result, "harness_abort", "train", "cancelled")
    assert made.leftovers() == []
    assert gone(word, 2.0)
    assert not [p for p in set(psutil.Process().children()) - others if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_descriptors_and_processes_stay_constant(bench: Make) -> None:
    """Runs of every kind, good and bad, leave no descriptor open."""
    made = bench(recipe='predict = "python predict.py"')
    programs = [GOOD, "raise ValueError", "def broken(:", "print('no model')"]
    for code in programs:
        made.run(code)
    before = len(os.listdir("/proc/self/fd"))

    for code in programs:
        made.run(code)

    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.slow
def test_two_at_once(bench: Make) -> None:
    """Runs in two threads don't mix: each has its own artefact and its own score."""
    made = bench()
    results: dict[str, RunResult] = {}

    def go(number: str) -> None:
        results[number] = made.run(GOOD.replace("0.5", number))

    threads = [threading.Thread(target=go, args=(number,)) for number in ("0.1", "0.2", "0.3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {number: result.run.metrics["loss"] for number, result in results.items()} == {
        "0.1": 0.1, "0.2": 0.2, "0.3": 0.3,
    }  # fmt: skip


@pytest.mark.slow
def test_without_a_sandbox(bench: Make) -> None:
    """At level none the same study runs, and every outcome says so."""
    result = bench(level=Sandbox("none", "limits only"), recipe='predict = "python predict.py"').run()

    assert (result.run.status, result.run.metrics) == ("ok", {"loss": 0.25})
    assert result.environment["sandbox"] == "none"


def test_an_interpreter_that_is_not_there(bench: Make) -> None:
    """The study's interpreter is looked for before anything runs."""
    with pytest.raises(GitResearchError, match="no interpreter /no/such/python"):
        bench(recipe='python = "/no/such/python"')


def test_a_cache_that_cannot_be_written(bench: Make, tmp_path: Path) -> None:
    """A cache folder that is a file is said in one sentence, with what to set."""
    (tmp_path / "cache").write_text("")

    with pytest.raises(GitResearchError, match="can't write") as caught:
        bench()
    assert "GITRESEARCH_CACHE" in caught.value.hint
