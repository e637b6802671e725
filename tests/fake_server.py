"""A scripted OpenAI-compatible server on 127.0.0.1: a queue of replies, a record of requests, and every way to fail."""

import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

SOON = {"retry-after-ms": "1"}  # so that the real client's backoff takes no time


@dataclass(frozen=True)
class Scripted:
    """One reply. `pause` goes before the first byte, `drip` between bytes; `hang_up` closes after so many bytes."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    pause: float = 0.0
    drip: float = 0.0
    hang_up: int | None = None
    kind: str = "application/json"


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def messages(self) -> list[dict[str, str]]:
        return list(self.body["messages"])


def says(text: str | None, *, finish: str | None = "stop", usage: Any = (100, 10), **more: Any) -> Scripted:
    """A good answer; `usage` is (in, out), a table as the server would send it, or None for none."""
    if isinstance(usage, tuple):
        usage = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **more}}
    return sends({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}, usage)


def sends(table: Any, usage: Any = None) -> Scripted:
    """A reply with any JSON value in it."""
    return Scripted(body=json.dumps({**table, "usage": usage} if usage is not None else table).encode())


def fails(status: int, message: str = "no", headers: Mapping[str, str] = SOON, code: str | None = None) -> Scripted:
    """An error as OpenAI words it."""
    body = json.dumps({"error": {"message": message, "type": "error", "param": None, "code": code}}).encode()
    return Scripted(status, body, headers)


@dataclass
class FakeServer:
    """Answers from `queue`, first in first out; a request that finds it empty gets a 400 that says so. Asked for the
    list of its models, it sends `listing`; at first it keeps none."""

    queue: list[Scripted] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    listing: Scripted = field(default_factory=lambda: fails(404))
    base_url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)

    def take(self, asked: Asked) -> Scripted:
        self.asked.append(asked)
        return self.queue.pop(0) if self.queue else fails(400, "the script is at its end")


@contextmanager
def serving(*queue: Scripted) -> Iterator[FakeServer]:
    """A server for as long as the block runs."""
    fake = FakeServer(list(queue))
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    fake.base_url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:  # each client reads all certificates first; plain HTTP needs none
            patch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_args, **_more: None)
            yield fake
    finally:
        fake.closing.set()
        http.shutdown()
        http.server_close()
        thread.join()


def _handler(fake: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._answer(fake.take(Asked(self.path, headers, json.loads(raw or b"{}"))))

        def do_GET(self) -> None:
            self._answer(fake.listing)

        def _answer(self, reply: Scripted) -> None:
            fake.closing.wait(reply.pause)
            self.close_connection = True
            with suppress(OSError):  # the client is gone
                _send(self, reply, fake.closing)

        def log_message(self, *args: Any) -> None: ...

    return Handler


def _send(handler: BaseHTTPRequestHandler, reply: Scripted, closing: threading.Event) -> None:
    if reply.hang_up == 0:
        return
    handler.send_response(reply.status)
    for name, value in {"Content-Type": reply.kind, **reply.headers}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(reply.body)))
    handler.end_headers()
    if not reply.drip:
        handler.wfile.write(reply.body[: reply.hang_up])
        return
    for at in range(len(reply.body)):
        handler.wfile.write(reply.body[at : at + 1])
        handler.wfile.flush()
        if closing.wait(reply.drip):
            return
