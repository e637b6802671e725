"""The command agent against real programs: good ones, and every way to misbehave that a table can hold."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gitresearch import folders
from gitresearch.agents import Proposal, ProposalFailed, Request, command
from gitresearch.agents.command import CommandAgent, reported, signature
from gitresearch.errors import GitResearchError
from gitresearch.lineage import Lineage
from gitresearch.sandbox import hiding
from gitresearch.study import Study, load
from gitresearch.trial import Hypothesis, Trial
from tests.processes import gone

FILES = {"train.py": b"LR = 0.1\n", "lib/model.py": b"WIDTH = 8\n"}
TOML = """
name = "demo"
[recipe]
train = "python train.py"
[objective]
metric = "loss"
[evaluator]
hook = "hook.py"
[agent]
kind = "command"
command = "PROGRAM"
timeout_seconds = 20
[[specialists]]
name = "one"
surface = ["train.py"]
[[prices]]
model = "*"
dollars_in = 1.0
dollars_out = 2.0
"""
START = "import json, os, pathlib, sys, time\nhere = pathlib.Path()\n"
TITLE = "title: raise the rate\\nwhy: it is low\\nexpect: -0.01\\n"
TELL = f"(here / '.gitresearch/hypothesis.md').write_text('{TITLE}')\n"
EDIT = "(here / 'train.py').write_text('LR = 0.2\\n')\n"

Propose = Callable[..., Proposal]


def request(study: Study, **more: str) -> Request:
    """A turn of specialist `one` on two files."""
    hypothesis = Hypothesis("measure the unchanged recipe", "demo", "baseline", operator="baseline")
    parent = Trial("a" * 40, (), "b" * 40, hypothesis, 1_700_000_000)
    return Request(
        study, study.specialists[0], "improve", parent, FILES, "# the brief\n", Lineage(study.objective),
        lambda _oid: FILES, 0, **more,
    )  # fmt: skip


@pytest.fixture
def propose(tmp_path: Path) -> Propose:
    """A proposal by a Python program with this text; further words are appended to its command line."""

    def run(text: str, words: str = "", timeout: float = 20.0, **more: str) -> Proposal:
        script = tmp_path / "agent.py"
        script.write_text(START + text)
        study = load(TOML.replace("PROGRAM", f"{sys.executable} {script} {words}"))
        study = replace(study, agent=replace(study.agent, timeout_seconds=timeout))
        return CommandAgent(study, tmp_path / "work").propose(request(study, **more))

    return run


def test_what_it_changes_is_the_edit_and_what_it_writes_the_hypothesis(propose: Propose, tmp_path: Path) -> None:
    """Files in, prompt on stdin, brief in a file; edit, hypothesis, words and cost out; nothing is left behind."""
    line = {"type": "turn.completed", "usage": {"input_tokens": 1000, "cached_input_tokens": 400, "output_tokens": 50}}
    made = propose(
        "prompt = sys.stdin.read()\nassert 'brief.md' in prompt and 'train.py' in prompt, prompt\n"
        "assert (here / '.gitresearch/brief.md').read_text() == '# the brief\\n'\n"
        "assert (here / 'lib/model.py').read_text() == 'WIDTH = 8\\n'\nassert not (here / '.git').exists()\n"
        f"{EDIT}{TELL}print({json.dumps(line)!r})\nprint('done', sys.argv[1:])\n", "--model {model}"
    )  # fmt: skip
    assert made.edits == {"train.py": b"LR = 0.2\n"}
    assert (made.hypothesis.subject, made.hypothesis.body) == ("raise the rate", "it is low")
    assert (made.hypothesis.expected, made.hypothesis.specialist) == (-0.01, "one")
    assert made.hypothesis.assisted_by == f"{os.path.basename(sys.executable)}:default"
    assert (made.usage.calls, made.usage.tokens_in, made.usage.tokens_cached, made.usage.tokens_out) == (
        1,
        1000,
        400,
        50,
    )
    assert made.usage.dollars == pytest.approx(0.0011)
    assert made.usage.seconds > 0
    assert "done []" in made.transcript  # without a model its option is left out
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TELL, "it changed no file"),
        (EDIT, "it wrote no .gitresearch/hypothesis.md"),
        (EDIT + "(here / '.gitresearch/hypothesis.md').write_text('it is better')", "no line `title: `"),
        (EDIT + "(here / '.gitresearch/hypothesis.md').symlink_to('/etc/passwd')", "it wrote no"),
        (EDIT + TELL + "(here / 'lib/model.py').write_text('WIDTH = 9')", "lib/model.py is outside the surface"),
        (EDIT + TELL + "(here / 'lib/model.py').unlink()", "lib/model.py is outside the surface"),
        (EDIT + TELL + "(here / 'new.py').write_text('')", "new.py is outside the surface"),
        (TELL + "(here / 'train.py').unlink(); os.mkfifo('train.py')", "'train.py' is no ordinary file"),
        (TELL + "(here / 'train.py').unlink(); os.symlink('/etc/passwd', 'train.py')", "'train.py' is no ordinary"),
        (TELL + "(here / 'train.py').write_text('LR = (')", "train.py"),
        (TELL + "(here / 'train.py').write_bytes(b'#' * (3 << 20))", "is too large"),
        (EDIT + TELL + "sys.exit('out of credit')", "it ended with status 1: out of credit"),
        (EDIT + TELL + "os.kill(os.getpid(), 9)", "it was ended by SIGKILL"),
        (EDIT + TELL + "[(here / f'f{n}').write_text('') for n in range(200)]", "more than 100 files"),
        (TELL + "os.makedirs('/'.join(['d'] * 50))", "folders deeper than 32"),
        (TELL + "(here / 'a\\x1b[2Jb').write_text('')", "outside the surface|no path"),
        ("print('x' * 100, flush=True)\n" + TELL, "it changed no file: x"),
    ],
)  # fmt: skip
def test_what_is_no_edit_is_said_with_its_cost(propose: Propose, text: str, told: str) -> None:
    """Each way to misbehave ends in one sentence, without a trial and with what it took."""
    with pytest.raises(ProposalFailed, match=told) as caught:
        propose(text)
    assert caught.value.usage.calls == 1
    assert caught.value.usage.seconds > 0
    assert "\x1b" not in str(caught.value)


def test_one_that_hangs_is_ended_with_all_that_it_started(propose: Propose) -> None:
    """The time limit holds for the tree."""
    word = f"sleeper-{os.getpid()}"
    child = f"import subprocess; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', '{word}'])\n"
    began = time.monotonic()
    with pytest.raises(ProposalFailed, match="stopped at its time of 1 s"):
        propose(child + EDIT + TELL + "time.sleep(60)\n", timeout=1.0)
    assert time.monotonic() - began < 15
    assert gone(word, 5.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("out = open('big', 'wb')\nwhile True: out.write(b'x' * 65536)", "status|limit for disk"),
        ("while True: print('x' * 65536)", "limit for log"),
    ],
)
def test_one_that_writes_without_end_is_stopped(
    propose: Propose, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    """Gigabytes of files or of words: neither fills the disk."""
    monkeypatch.setattr(command, "LIMITS", replace(command.LIMITS, disk_bytes=8 << 20, log_bytes=4 << 20))
    with pytest.raises(ProposalFailed, match=told):
        propose(text)


def test_leftovers_of_tools_are_no_edit(propose: Propose) -> None:
    """Caches, settings and a repository that the program made for itself are passed over."""
    drop = "for name in ('.git/config', '__pycache__/a.pyc', '.claude/x', 'lib/__pycache__/b.pyc', '.aider.chat'):\n"
    drop += "    (here / name).parent.mkdir(parents=True, exist_ok=True); (here / name).write_text('x')\n"
    assert propose(drop + EDIT + TELL).edits == {"train.py": b"LR = 0.2\n"}


def test_it_gets_the_variables_it_needs_and_no_other(propose: Propose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own key and what a program needs to run; no other key of the person's."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not its own")
    made = propose(EDIT + TELL + "print(json.dumps(dict(os.environ)))")
    assert '"OPENAI_API_KEY": "[OPENAI_API_KEY]"' in made.transcript
    assert "hunter2" not in made.transcript
    assert "not its own" not in made.transcript
    assert '"HOME"' in made.transcript


def test_a_key_never_reaches_a_record(propose: Propose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a file, where it is refused, nor in a hypothesis or a last word, where its name takes its place."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    key = "os.environ['OPENAI_API_KEY']"
    with pytest.raises(ProposalFailed, match="holds one of its keys"):
        propose(TELL + f"(here / 'train.py').write_text('KEY = ' + repr({key}))")
    made = propose(EDIT + f"(here / '.gitresearch/hypothesis.md').write_text('title: use ' + {key})")
    assert made.hypothesis.subject == "use [OPENAI_API_KEY]"
    with pytest.raises(ProposalFailed, match=r"bad key \[OPENAI_API_KEY\]") as caught:
        propose(f"sys.exit('bad key ' + {key})")
    assert "hunter2" not in caught.value.transcript


def test_a_refused_change_is_told_the_next_time(propose: Propose) -> None:
    """What was wrong with the last answer stands in the prompt."""
    made = propose(EDIT + TELL + "print(sys.stdin.read())", again="the same files were tried before, in 1234abcd")
    assert "refused: the same files were tried before, in 1234abcd" in made.transcript


@pytest.mark.parametrize("name", sorted(command.PRESETS))
def test_a_known_agent_that_is_not_installed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before anything is spent, with the command that installs it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitResearchError, match=f"there is no program {name}") as caught:
        CommandAgent(load(TOML.replace("PROGRAM", name)), tmp_path)
    assert caught.value.hint.startswith(("npm install", "pip install"))


@pytest.mark.parametrize("name", sorted(command.PRESETS))
@pytest.mark.parametrize("model", ["", "some/model"])
def test_the_known_agents_are_called_as_documented(
    name: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in of that name gets the flags, the prompt by stdin or as a word, and a model only where one is named."""
    program = tmp_path / name
    program.write_text(f"#!{sys.executable}\n{START}{EDIT}{TELL}print(json.dumps([sys.argv[1:], sys.stdin.read()]))\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    study = load(TOML.replace("PROGRAM", name))
    study = replace(study, agent=replace(study.agent, model=model))
    made = CommandAgent(study, tmp_path / "work").propose(request(study))
    words, given = json.loads(made.transcript)
    assert all("brief.md" in text for text in (given, *(w for w in words if " " in w)))
    assert (model in words) == bool(model)
    assert ("--model" in words or "-m" in words) == bool(model)
    assert not any("{" in word for word in words if " " not in word)
    assert made.hypothesis.assisted_by == f"{name}:{model or 'default'}"
    assert ("train.py" in words) == (name == "aider")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ({"type": "turn.completed", "usage": {"input_tokens": 10, "cached_input_tokens": 4, "output_tokens": 2}},
         (10, 4, 2, 14e-6)),
        ({"type": "result", "total_cost_usd": 0.5, "usage": {
            "input_tokens": 3, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 5, "output_tokens": 1}},
         (15, 7, 1, 0.5)),
        ({"type": "result", "total_cost_usd": "free", "usage": {"input_tokens": True, "output_tokens": -4}},
         (0, 0, 0, 0.0)),
        ({"type": "result", "usage": [1]}, (0, 0, 0, 0.0)),
        ({"type": "item.completed", "usage": {"input_tokens": 9}}, (0, 0, 0, 0.0)),
    ],
)  # fmt: skip
def test_what_a_program_reports_is_read_with_care(line: object, found: tuple[float, ...]) -> None:
    """Figures as codex and claude print them, and nothing else for a figure."""
    usage = reported(b"words\n{broken\n" + json.dumps(line).encode() + b"\n", load(TOML).price(""))
    got = (usage.tokens_in, usage.tokens_cached, usage.tokens_out, usage.dollars)
    assert got == pytest.approx(found)


def test_any_name_signs_a_hypothesis() -> None:
    """Blanks, colons and other scripts in a program's or model's name."""
    assert signature("my agent:2", "ü b") == "my-agent-2:--b"
    assert signature("", "") == "unnamed:default"


def test_the_evaluators_keys_are_hidden(propose: Propose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bubblewrap works the program finds the folder of keys empty, can't uncover it and can't walk around it
    through our own process; its home, its edits and its hypothesis are as without."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    keys = folders.keys()
    keys.mkdir(parents=True)
    (keys / "me").write_text("PRIVATE KEY")
    (tmp_path / "config" / "login").write_text("its login")
    if not hiding(keys):
        pytest.skip("bubblewrap does not work here")
    # Ours has capabilities that the program lacks; another process of a root user may have none.
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.getuid() == 0 and shutil.which("setpriv") else []
    other = subprocess.Popen([*bare, "sleep", "60"])
    made = propose(
        f"import subprocess\nkeys = {str(keys)!r}\n"
        f"ours, others = ('/proc/%d/root' % pid + keys for pid in ({os.getpid()}, {other.pid}))\n"
        "subprocess.run(['umount', keys], capture_output=True)\n"
        "subprocess.run(['unshare', '-Ur', 'umount', keys], capture_output=True)\n"
        "for path in (keys, ours, others):\n    try: print('found', os.listdir(path))\n"
        "    except OSError as error: print('refused', error.errno)\n"
        "try: open(keys + '/planted', 'w')\nexcept OSError: print('read-only')\n"
        f"print((pathlib.Path(keys).parents[1] / 'login').read_text())\n{EDIT}{TELL}"
    )
    other.kill()
    other.wait()
    said = made.transcript.split("\n")

    assert said[0] == "found []"
    assert [word.split()[0] for word in said[1:3]] == ["refused", "refused"]
    assert said[3:5] == ["read-only", "its login"]
    assert made.edits == {"train.py": b"LR = 0.2\n"}
    assert made.hypothesis.subject == "raise the rate"
    assert [path.name for path in keys.iterdir()] == ["me"]


def test_the_hidden_folder_cannot_be_moved_from_under_its_cover(
    propose: Propose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the next proposal found the keys where nothing lies over them; and no process stays for that."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    keys = folders.keys()
    keys.mkdir(parents=True)
    (keys / "me").write_text("PRIVATE KEY")
    if not hiding(keys):
        pytest.skip("bubblewrap does not work here")
    word = f"862.{os.getpid()}"
    made = propose(
        f"for path in {[str(path) for path in (keys, *keys.parents[:3])]!r}:\n"
        "    try: os.rename(path, path + '-moved'); print('moved')\n"
        "    except OSError as error: print('refused')\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        f"        os.closerange(0, 3)\n        os.execvp('sleep', ['sleep', '{word}'])\n    os._exit(0)\n"
        f"os.wait()\n{EDIT}{TELL}"
    )
    assert made.transcript.split("\n")[:4] == ["refused"] * 4
    assert (keys / "me").exists()
    assert gone(word)


def test_without_bubblewrap_an_agent_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is not there is not made, and a bubblewrap that does not work is left out."""
    assert hiding(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
    (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert hiding(tmp_path) == []
