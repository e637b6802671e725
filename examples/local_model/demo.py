"""A search by a model without sense: hundreds of bad answers, and each of them on record. See `make demo-llm`.

Makes a study in FOLDER, starts the server beside it, runs `gitresearch` as a person would, and compares what the server
counted with what the notes say. Goes on where an earlier one stopped, and removes nothing.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
GITRESEARCH = [sys.executable, "-c", "from gitresearch.cli.main import main; main()"]
COUNTED = {"calls": "answers", "tokens_in": "prompt_tokens", "tokens_out": "completion_tokens"}  # by us, by the server


def begin(folder: Path) -> None:
    """A repository with the small recipe and its study, unless there is one."""
    if (folder / "study.toml").exists():
        return
    shutil.copytree(HERE / "study", folder, dirs_exist_ok=True)
    subprocess.run(["git", "-C", str(folder), "init", "--quiet"], check=True)
    key = subprocess.run([*GITRESEARCH, "-C", str(folder), "key"], check=True, capture_output=True).stdout
    (folder / "allowed_signers").write_bytes(key)
    me = ("-c", "user.name=demo", "-c", "user.email=demo@localhost")
    for command in (["add", "."], [*me, "commit", "--quiet", "-m", "begin the study"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)


@contextmanager
def server(record: Path, log: Path, form: bool) -> Iterator[str]:
    """The base URL of a server that runs as long as the block does."""
    command = [sys.executable, str(HERE / "server.py"), "--record", str(record)]
    command += ["--form", str(HERE / "form.gbnf")] if form else []
    with (
        log.open("a") as said,
        # In a session of its own: ^C is for the search, which then waits for its last answer.
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True) as process,
    ):
        try:
            url = (process.stdout.readline() if process.stdout else "").strip()
            if not url:
                lines = log.read_text().splitlines()
                sys.exit(f"the server did not start: {lines[-1] if lines else log}")
            yield url
        finally:
            process.terminate()


def gitresearch(folder: Path, *arguments: str) -> int:
    """Run the command line; its exit code."""
    return subprocess.run([*GITRESEARCH, "-C", str(folder), *arguments], check=False).returncode


def counted(record: Path) -> dict[str, int]:
    """What the server counted over all answers it gave."""
    answers = [line for line in map(json.loads, record.read_text().splitlines()) if line["status"] == 200]
    sums = {name: sum(line[name] for line in answers) for name in ("prompt_tokens", "completion_tokens")}
    return {"answers": len(answers), **sums}


def noted(folder: Path) -> dict[str, int]:
    """What the notes say was used."""
    command = [*GITRESEARCH, "-C", str(folder), "cost", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout)["specialists"]["all"])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--tokens", type=int, default=300_000, help="stop after so many, in and out [%(default)s]")
    options.add_argument("--jobs", type=int, default=1, help="trials at once [%(default)s]")
    options.add_argument("--free", action="store_true", help="let it write what it likes, which is never an edit")
    given = options.parse_args()
    begin(given.folder)
    record, log = given.folder / ".git" / "answers.jsonl", given.folder / ".git" / "server.log"
    record.touch()  # a run that ends before its first answer has none to count
    with server(record, log, not given.free) as url:
        limits = ("--tokens", str(given.tokens), "--jobs", str(given.jobs))
        asked = ("--agent", "openai", "--base-url", url, "--model", "smollm2", "--plain", "--allow-unsandboxed")
        code = gitresearch(given.folder, "run", *asked, *limits)
    gitresearch(given.folder, "log", "-n", "12")
    gitresearch(given.folder, "cost")
    theirs, ours = counted(record), noted(given.folder)
    for name, other in COUNTED.items():
        print(f"{other}: {theirs[other]:,} by the server, {ours[name]:,} in the notes")
    if any(theirs[other] != ours[name] for name, other in COUNTED.items()):
        sys.exit("the notes don't account for every answer")
    sys.exit(code)


if __name__ == "__main__":
    main()
