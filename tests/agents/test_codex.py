"""The real Codex command line as a specialist, against a server of its API on loopback that scripts what it does."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gitresearch.repo import Repo
from tests.build import git, plain_repo

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


@contextmanager
def responses(rates: list[float]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server of the responses API: each conversation makes one edit by the agent's own shell tool, then ends."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            item: dict[str, Any] = {"type": "message", "role": "assistant"}
            item["content"] = [{"type": "output_text", "text": "done"}]
            if not any(part.get("type") == "function_call_output" for part in asked[-1]["input"]):
                item = {"type": "function_call", "call_id": "c1", "name": "exec_command"}
                item["arguments"] = json.dumps({"cmd": shell(rates.pop(0))})
            usage = {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 40}, "output_tokens": 20,
                     "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 120}  # fmt: skip
            events = [
                {"type": "response.created", "response": {"id": "r"}},
                {"type": "response.output_item.done", "item": item},
                {"type": "response.completed", "response": {"id": "r", "usage": usage}},
            ]
            body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}/v1", asked
    finally:
        http.shutdown()
        http.server_close()


@pytest.mark.slow
@pytest.mark.skipif(CODEX is None, reason="codex is not installed: npm install -g @openai/codex")
def test_codex_searches_a_repository(tmp_path: Path) -> None:
    """`gitresearch run` with the real program: its edits are trials, its cost is on record, its key is nowhere."""
    with responses([0.5, 0.9]) as (url, asked):
        provider = f'{{name="fake",base_url="{url}",env_key="FAKE_KEY",wire_api="responses"}}'
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
    assert len(asked) == 4
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
