"""The real Codex command line as a specialist, against a server of its API on loopback that scripts what it does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gitresearch.repo import Repo
from tests.build import git, plain_repo
from tests.fake_server import Scripted, serving

HERE = Path(__file__).parents[2]
CODEX = shutil.which("codex") or shutil.which("codex", path=str(HERE / ".venv/codex/node_modules/.bin"))
TOML = """
name = "demo"
[recipe]
train = "python train.py"
[objective]
metric = "val_loss"
[seeds]
baseline = 2
head = 1
confirm = 2
[evaluator]
pattern = '''val_loss: (\\S+)'''
[agent]
kind = "command"
key_env = "FAKE_KEY"
model = "scripted"
timeout_seconds = 60
command = '''PROGRAM'''
[[specialists]]
name = "one"
surface = ["train.py"]
"""


def shell(rate: float) -> str:
    """What the model has the agent do in its folder: look, edit, and say why."""
    says = f"title: set the rate to {rate}\\nwhy: the brief says it is low\\nexpect: -0.1\\n"
    return (
        f"grep -q 'Study demo' .gitresearch/brief.md && sed -i 's/^LR = .*/LR = {rate}/' train.py"
        f" && printf '{says}' > .gitresearch/hypothesis.md"
    )


def streams(item: dict[str, Any]) -> Scripted:
    """A turn of the responses API that makes one item."""
    usage = {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 40}, "output_tokens": 20,
             "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 120}  # fmt: skip
    events = [
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.output_item.done", "item": item},
        {"type": "response.completed", "response": {"id": "r", "usage": usage}},
    ]
    lines = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return Scripted(body="".join(lines).encode(), kind="text/event-stream")


def edits(rate: float) -> list[Scripted]:
    """A conversation: one edit by the agent's own shell tool, and the end."""
    call = {"type": "function_call", "call_id": "c1", "name": "exec_command"}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]}
    return [streams({**call, "arguments": json.dumps({"cmd": shell(rate)})}), streams(said)]


@pytest.mark.slow
@pytest.mark.skipif(CODEX is None, reason="codex is not installed: npm install -g @openai/codex")
def test_codex_searches_a_repository(tmp_path: Path) -> None:
    """`gitresearch run` with the real program: its edits are trials, its cost is on record, its key is nowhere."""
    with serving(*edits(0.5), *edits(0.9)) as server:
        provider = f'{{name="fake",base_url="{server.base_url}",env_key="FAKE_KEY",wire_api="responses"}}'
        flags = f"-c model_provider=fake -c 'model_providers.fake={provider}'"
        program = (
            f"{CODEX} exec --json --ephemeral --ignore-user-config --skip-git-repo-check"
            f" -s danger-full-access -m {{model}} {flags} -"
        )
        train = b"LR = 0.1\nprint('val_loss:', 1 - LR)\n"
        top = plain_repo(tmp_path / "r", {"train.py": train, "study.toml": TOML.replace("PROGRAM", program).encode()})
        done = subprocess.run(
            [sys.executable, "-c", "from gitresearch.cli.main import main; main()", "-C", str(top), "run", "--trials",
             "2", "--jobs", "1", "--plain", "--allow-unsandboxed"],
            capture_output=True, text=True, check=False,
            env={**os.environ, "FAKE_KEY": "sk-hunter2-hunter2", "GITRESEARCH_CACHE": str(tmp_path / "cache")},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(server.asked) == 4
    trials = [record.trial for record in Repo.open(top).trials("demo") if record.trial.operator != "baseline"]
    assert [trial.subject for trial in trials] == ["set the rate to 0.5", "set the rate to 0.9"]
    assert all(trial.hypothesis.assisted_by == "codex:scripted" for trial in trials)
    assert git(top, "show", f"{trials[1].oid}:train.py").startswith("LR = 0.9\n")
    document = (Repo.open(top).proposal(trials[0].oid) or b"").decode()
    assert "tokens_in = 200" in document
    assert "tokens_cached = 80" in document
    assert "tokens_reasoning = 10" in document
    objects = ["git", "-C", str(top), "cat-file", "--batch", "--batch-all-objects"]
    everything = subprocess.run(objects, capture_output=True, check=True).stdout
    assert b"set the rate to 0.9" in everything
    assert b"hunter2" not in everything + (done.stdout + done.stderr).encode()
