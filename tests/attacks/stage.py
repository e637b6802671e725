"""The stage on which malicious recipes run: a study of hidden bits, and an evaluator that can be weakened by a switch.

An attack is one module of tests/attacks/recipes: its docstring is the sentence, RECIPE what is committed, what must
come of it, and the weakness that it would need. The same recipe is run twice, through the real Evaluator.
"""

import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from gitresearch import lab
from gitresearch.evaluate import Evaluator, RunResult
from gitresearch.repo import Repo
from gitresearch.sandbox import Limits, Sandbox
from gitresearch.study import load
from gitresearch.trial import Trial
from tests.build import STUDY, hypothesis, plain_repo
from tests.processes import gone

TOP = Path(__file__).resolve().parents[2]
HOOK = (TOP / "evaluator_hooks/strict.py").read_text() + Path(__file__).with_name("judge.py").read_text()
CANARY = "sk-canary-7391"
BWRAP = shutil.which("bwrap")
STUDY_TOML = """
name = "demo"
[recipe]
train = "python train.py"
{predict}
[objective]
metric = "bits"
[budget]
clock = "{clock}"
warmup_seconds = {warmup}
train_seconds = {train}
eval_seconds = {score}
disk_mb = {disk}
memory_mb = {memory}
log_mb = 1
processes = {processes}
artefact_bytes = {artefact}
[evaluator]
{evaluator}
[[specialists]]
name = "optimizer"
surface = ["**"]
"""
# What an honest recipe does: it counts, and says the same of every bit.
HONEST = """
import json, os
bits = json.load(open(os.environ["GITRESEARCH_DATA"] + "/bits.json"))
model = [sum(bits) / len(bits)] * len(bits)
json.dump(model, open(os.environ["GITRESEARCH_ARTEFACT"] + "/model", "w"))
"""
# What a recipe says where it may warm up.
READY = """
import os
ready = int(os.environ["GITRESEARCH_READY"])
os.write(ready, b"1")
os.read(ready, 1)
"""
# What every thief needs: to try one thing after the other, and to leave what was found as a perfect model.
THIEF = """
import os
def steal(places):
    for place in places:
        try:
            with open(place, "rb") as file:
                found = file.read(4096)
        except (OSError, ValueError):
            continue
        if found.startswith(b"[") and found.count(b",") == 31 and "train" not in str(place):
            open(os.environ["GITRESEARCH_ARTEFACT"] + "/model", "wb").write(found)
            return
""" + HONEST.replace("json.dump", "os.path.exists(os.environ['GITRESEARCH_ARTEFACT'] + '/model') or json.dump")
PREDICTOR = 'for _ in range(32):\n    print("[0.25, 0.75]", flush=True)\n    input()\n'


@dataclass(frozen=True)
class Weak:
    """The switch: a rule that the hook leaves out, a lower sandbox, a pattern in place of the hook, or a part of the
    evaluator that something weaker stands in for."""

    hook: str = ""
    level: str = ""
    pattern: str = ""
    without: Mapping[str, Any] = field(default_factory=dict)


NO_LIMITS = Weak(without={"gitresearch.evaluate.Evaluator._run_limits": lambda *_: Limits(60.0)})
NO_SANDBOX = Weak(level="none")


@dataclass
class Seen:
    """What came of an attack: its runs, and what it was aimed at."""

    results: list[RunResult]
    stage: "Stage"
    honest: float

    @property
    def last(self) -> RunResult:
        return self.results[-1]

    @property
    def status(self) -> str:
        return self.last.run.status

    @property
    def bits(self) -> float | None:
        return self.last.run.metrics.get("bits")

    @property
    def told(self) -> str:
        """What the outcome would say of the failure."""
        return "\n".join(line for result in self.results if result.failure for line in result.failure.lines)


def better(seen: Seen) -> bool:
    """Whether the recipe has a score that no honest one gets."""
    return seen.bits is not None and not seen.bits > seen.honest - 0.1


def ends(*statuses: str) -> Callable[[Seen], bool]:
    """Whether the run ended so."""
    return lambda seen: seen.status in statuses


@dataclass(frozen=True)
class Recipe:
    """One attack. In its text LABELS, HOOK, VICTIM, PORT, NAME, TERMINAL and WORD stand for what a well-informed
    attacker knows: the place of labels and hook, a process of the evaluator's user, a listener that gives the labels
    away, the terminal of the person who looks on, and a word to be told by."""

    train: str = HONEST
    status: str = "ok"
    weak: Weak = NO_SANDBOX
    gained: Callable[[Seen], bool] = better
    files: Mapping[str, str] = field(default_factory=dict)
    modes: Mapping[str, str] = field(default_factory=dict)  # of entries that are no plain files
    predict: str = ""
    budget: Mapping[str, Any] = field(default_factory=dict)
    purposes: tuple[str, ...] = ("screen",)
    both: Mapping[str, Any] = field(default_factory=dict)  # patched for either evaluator, to save time
    needs: Callable[[], bool] = lambda: True  # what the machine must have for it to be tried
    fast: bool = False  # among the tests of every minute


class Stage:
    """A repository with the study, and what attacks are aimed at."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.repo = Repo.open(plain_repo(top / "repo", {"train.py": b"", "hook.py": HOOK.encode()}), durable=False)
        self.repo.pin_study(STUDY, self.repo.head_commit())
        self.base = self.repo.head_commit()
        self.word = f"861.{os.getpid()}"
        self.labels = top / "cache/data/bits/held_out/bits.json"
        self.terminal = b""
        self.victim_died = False
        self._stack = ExitStack()
        self._evaluators: dict[tuple[str, str], Evaluator] = {}

    def close(self) -> None:
        self._stack.close()

    def evaluator(self, recipe: Recipe, weak: Weak | None) -> Evaluator:
        """The evaluator for a recipe, or the weakened one."""
        weak = weak or Weak()
        settings = f'hook = "hook.py"\nhook_seconds = 3\nsettings = {{ weak = "{weak.hook}" }}'
        told = {
            "clock": "wall",
            "warmup": 0,
            "train": 20,
            "score": 20,
            "disk": 100,
            "memory": 1000,
            "processes": 64,
            "artefact": 0,
        }
        text = STUDY_TOML.format(
            predict='predict = "python predict.py"' if recipe.predict else "",
            evaluator=f"pattern = '''{weak.pattern}'''" if weak.pattern else settings,
            **{**told, **recipe.budget},
        )
        level = weak.level or ("bubblewrap" if BWRAP else "none")
        if (text, level) not in self._evaluators:
            box = Sandbox(level, level, BWRAP or "")
            made = Evaluator(self.repo, load(text), self.base, box, self.top / "cache")
            self._stack.callback(made.close)
            made.prepare()
            self._evaluators[text, level] = made
        return self._evaluators[text, level]

    def run(self, recipe: Recipe, weak: Weak | None, honest: float = 0.0) -> Seen:
        """Commit the recipe and have it evaluated, once for each of its purposes."""
        evaluator = self.evaluator(recipe, weak)
        with self._aims(recipe) as known:
            files = {"train.py": recipe.train, **recipe.files}
            if recipe.predict:
                files["predict.py"] = recipe.predict
            for word, value in {**known, "HOOK": str(evaluator.hook.program) if evaluator.hook else ""}.items():
                files = {
                    path: text.replace(word, str(value))
                    if path in recipe.modes
                    else re.sub(rf"\b{word}\b", lambda _, value=value: repr(value), text)
                    for path, text in files.items()
                }
            trial = self.commit(files, recipe.modes)
            seen = Seen([evaluator.run(trial, lab.draw_seed(), why) for why in recipe.purposes], self, honest)
        if weak and weak.level and "HOOK" in recipe.train:  # what it may have written over is nobody else's judge
            self._evaluators = {key: made for key, made in self._evaluators.items() if made is not evaluator}
        return seen

    def commit(self, files: Mapping[str, str], modes: Mapping[str, str]) -> Trial:
        """A trial of these files, as plain git makes one: nothing of ours looked at its paths."""
        env = {**os.environ, "GIT_INDEX_FILE": str(self.top / "index")}

        def plumb(*words: str, given: str = "") -> str:
            command = ["git", f"--git-dir={self.repo.git_dir}", *words]
            done = subprocess.run(command, input=given.encode(), env=env, capture_output=True, check=True)
            return done.stdout.decode().strip()

        plumb("read-tree", self.base)
        for path, text in files.items():
            mode = modes.get(path, "100644")
            blob = text if mode == "160000" else plumb("hash-object", "-w", "--stdin", given=text)
            plumb("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}")
        tree = plumb("write-tree")
        oid = plumb("commit-tree", tree, "-p", self.base, "-m", "try this")
        return Trial(oid, tree, (self.base,), 0, hypothesis())

    @contextmanager
    def _aims(self, recipe: Recipe) -> Iterator[dict[str, Any]]:
        """What the recipe names, made ready; only that."""
        text = "".join((recipe.train, recipe.predict, *recipe.files.values()))
        known: dict[str, Any] = {"LABELS": str(self.labels), "WORD": self.word, "CACHE": str(self.top / "cache")}
        with ExitStack() as stack:
            if "VICTIM" in text:
                known["VICTIM"] = stack.enter_context(self._victim())
            if "PORT" in text or "NAME" in text:
                known |= stack.enter_context(_giving_away(self.labels.read_bytes()))
            if "TERMINAL" in text:
                ours, theirs = os.openpty()
                stack.callback(os.close, theirs)
                stack.callback(self._listen, ours)
                known["TERMINAL"] = os.ttyname(theirs)
            yield known

    @contextmanager
    def _victim(self) -> Iterator[int]:
        victim = subprocess.Popen(["sleep", "20"], env={"OPENAI_API_KEY": CANARY, "PATH": os.defpath})
        yield victim.pid
        self.victim_died = victim.poll() is not None
        victim.kill()
        victim.wait()

    def _listen(self, handle: int) -> None:
        os.set_blocking(handle, False)
        try:
            self.terminal = os.read(handle, 4096)
        except BlockingIOError:
            self.terminal = b""
        finally:
            os.close(handle)


@contextmanager
def _giving_away(labels: bytes) -> Iterator[dict[str, Any]]:
    """A TCP listener on loopback and an abstract socket that hand out the labels."""
    name = f"gitresearch-attack-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()

        def serve(listener: socket.socket) -> None:
            try:
                while True:
                    with listener.accept()[0] as peer:
                        peer.sendall(labels)
            except OSError:
                return

        threads = [threading.Thread(target=serve, args=(listener,)) for listener in (tcp, abstract)]
        for thread in threads:
            thread.start()
        yield {"PORT": tcp.getsockname()[1], "NAME": name}
        for listener in (tcp, abstract):
            listener.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()


def still_there(seen: Seen) -> bool:
    """Whether a process with the word is still at work; it is ended."""
    if gone(seen.stage.word, 0.3):
        return False
    for process in psutil.process_iter(["cmdline"]):
        if seen.stage.word in (process.info["cmdline"] or ()):
            process.kill()
    return True


def swept(seen: Seen) -> bool:
    """Whether a file with the word was found by the next run; those that lie about are removed."""
    for place in ("/tmp", "/var/tmp", "/dev/shm", seen.stage.top / "cache", seen.stage.top / "cache/work"):
        Path(place, seen.stage.word).unlink(missing_ok=True)
    for path in seen.stage.labels.parents[1].rglob(seen.stage.word):
        path.unlink()
    return "found it in" in seen.told
