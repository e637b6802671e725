"""The door to a language model, by the real client against a scripted server: every failure is one sentence."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gitresearch import model as module
from gitresearch.errors import GitResearchError
from gitresearch.model import Model, ModelError
from gitresearch.reply import Reply
from tests.fake_server import SOON, FakeServer, Scripted, fails, says, sends, serving

KEY = "sk-hunter2-0123456789abcdef"
ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def _world(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server whose queue the test fills."""
    with serving() as fake:
        yield fake


def asking(server: FakeServer, *queue: Scripted, **settings: Any) -> Model:
    """A model on the server, which will answer from the queue."""
    server.queue.extend(queue)
    return Model("m", server.base_url, **{"timeout_seconds": 5.0, "retries": 0, **settings})


def failure(model: Model) -> ModelError:
    """The error of one call, held to what every error must be: one sentence without the key."""
    with pytest.raises(GitResearchError) as caught:
        model.ask(ASK, 100)
    error = caught.value
    assert isinstance(error, ModelError)
    assert error.message
    assert "\n" not in str(error)
    assert len(str(error)) < 500
    for part in (str(error), repr(error), repr(error.args), repr(model)):
        assert KEY not in part
        assert KEY[:12] not in part
    assert error.__cause__ is None
    return error


def test_a_good_answer_comes_back_with_its_usage(server: FakeServer) -> None:
    """Text, finish reason and all four token counts are taken over, and the request says what was asked."""
    usage = {
        "prompt_tokens": 50,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 12},
    }
    reply = asking(server, says("hi", usage=usage)).ask(ASK, 77, 0.5)
    assert (reply.text, reply.finish_reason) == ("hi", "stop")
    assert (reply.tokens_in, reply.tokens_cached, reply.tokens_out, reply.tokens_reasoning) == (50, 30, 20, 12)
    assert 0 < reply.seconds < 60
    asked = server.asked[0]
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {"model": "m", "messages": ASK, "temperature": 0.5, "max_tokens": 77}
    assert asked.headers["authorization"] == f"Bearer {KEY}"


def test_no_temperature_is_sent_unless_one_is_given(server: FakeServer) -> None:
    """Reasoning models refuse a temperature, so none is sent by default."""
    asking(server, says("hi")).ask(ASK, 10)
    assert "temperature" not in server.asked[0].body


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": "many", "completion_tokens": True},
        {"prompt_tokens": -5, "prompt_tokens_details": None, "completion_tokens_details": []},
        {"prompt_tokens_details": "x", "completion_tokens_details": {"reasoning_tokens": {}}},
    ],
)
def test_odd_usage_counts_as_nothing(server: FakeServer, usage: Any) -> None:
    """Usage that is missing, null or of another type is 0, never an error."""
    reply = asking(server, says("hi", usage=usage)).ask(ASK, 10)
    assert reply == Reply("hi", "stop", seconds=reply.seconds)


def test_null_and_unknown_fields_do_no_harm(server: FakeServer) -> None:
    """Servers send null where nothing is and fields of their own."""
    reply = asking(server, says(None, finish=None, reasoning_content="hm", tool_calls=None, odd=[1])).ask(ASK, 10)
    assert (reply.text, reply.finish_reason) == ("", "")
    assert asking(server, says("x", refusal=None, name=3)).ask(ASK, 10).text == "x"


def test_half_a_surrogate_pair_can_be_sent_back(server: FakeServer) -> None:
    """JSON may hold what UTF-8 can't; the text that comes out can be asked again and stored."""
    model = asking(server, says("a\ud800b"), says("ok"))
    text = model.ask(ASK, 10).text
    assert text.encode()
    assert model.ask([{"role": "assistant", "content": text}], 10).text == "ok"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_names_its_variable(server: FakeServer, status: int) -> None:
    """The person is told which variable to set, even if the server repeats the key."""
    error = failure(asking(server, fails(status, f"Incorrect key: {KEY}")))
    assert "refused the key in OPENAI_API_KEY" in error.message
    assert error.hint.startswith("export OPENAI_API_KEY=")
    assert len(server.asked) == 1


def test_an_unknown_model_is_named(server: FakeServer) -> None:
    """A 404 names the model and the option that changes it."""
    error = failure(asking(server, fails(404, "The model `m` does not exist")))
    assert "knows no model m" in error.message
    assert "--model" in error.hint


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_a_passing_trouble_is_waited_out(server: FakeServer, status: int) -> None:
    """What may be over the next moment is asked again."""
    assert asking(server, fails(status), fails(status), says("hi"), retries=2).ask(ASK, 10).text == "hi"
    assert len(server.asked) == 3


def test_retry_after_zero_is_heeded(server: FakeServer) -> None:
    """A server that says `retry-after: 0` is asked again soon."""
    began = time.monotonic()
    assert asking(server, fails(429, "no", {"retry-after": "0"}), says("hi"), retries=1).ask(ASK, 10).text == "hi"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("status", "word"), [(429, "slow down"), (500, "failed"), (418, "refused"), (400, "refused")])
def test_a_lasting_trouble_ends_in_a_sentence(server: FakeServer, status: int, word: str) -> None:
    """What the server said is in the sentence, on one line and without the key."""
    error = failure(asking(server, *[fails(status, f"bad\n\x1b[31mthing {KEY}")] * 2, retries=1))
    assert word in error.message
    assert "bad thing" in error.message.replace("\\n", " ")


@pytest.mark.parametrize("before", range(170, 202, 8))
def test_no_part_of_a_key_outlives_the_cut(server: FakeServer, before: int) -> None:
    """A long message is cut after the key is taken out, never through its middle."""
    assert failure(asking(server, fails(400, "x" * before + " " + KEY)))


def test_the_other_name_of_the_length_limit_is_tried_once_and_kept(server: FakeServer) -> None:
    """A server that wants max_completion_tokens gets it, from then on at once."""
    model = asking(server, fails(400, "Use 'max_completion_tokens' instead of max_tokens"), says("a"), says("b"))
    assert [model.ask(ASK, 9).text for _ in range(2)] == ["a", "b"]
    lengths = [{name: value for name, value in asked.body.items() if "tokens" in name} for asked in server.asked]
    assert lengths == [{"max_tokens": 9}, {"max_completion_tokens": 9}, {"max_completion_tokens": 9}]


def test_a_length_limit_that_is_too_high_is_no_other_name(server: FakeServer) -> None:
    """If the second name is refused too, the first complaint is told and the first name stays."""
    model = asking(server, fails(400, "max_tokens is above 4096"), fails(400, "what is max_completion_tokens"))
    assert "above 4096" in failure(model).message
    server.queue.append(says("a"))
    model.ask(ASK, 9)
    assert "max_tokens" in server.asked[-1].body


def test_another_bad_request_is_not_asked_again(server: FakeServer) -> None:
    """A 400 about something else is told at once."""
    assert "context" in failure(asking(server, fails(400, "the context is too long"))).message
    assert len(server.asked) == 1


def test_nobody_there(server: FakeServer) -> None:
    """A port where nothing listens is a server that can't be reached."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    error = failure(Model("m", url, retries=0))
    assert "can't be reached" in error.message
    assert url in error.message


@pytest.mark.parametrize(
    "url", ["http://[::1", "nonsense", "ftp://127.0.0.1/x", "http://127.0.0.1:99999/v1", "http://"]
)
def test_an_address_that_is_none(url: str) -> None:
    """A mistyped --base-url is told, never raised by a library below."""
    assert "base-url" in failure(Model("m", url, retries=0)).hint


def test_a_password_in_the_address_is_not_repeated(server: FakeServer) -> None:
    """What stands before the @ of an address is no business of a log."""
    model = asking(server, fails(500))
    model.base_url = server.base_url.replace("//", "//ada:lovelace@")
    assert "lovelace" not in str(failure(model))


def test_a_server_that_takes_too_long(server: FakeServer) -> None:
    """The time limit is told with its length."""
    began = time.monotonic()
    assert "in 0.1 s" in failure(asking(server, Scripted(pause=20), timeout_seconds=0.1)).message
    assert time.monotonic() - began < 5


def test_a_body_that_drips_is_cut_off(server: FakeServer) -> None:
    """Bytes that keep coming keep the connection alive, but not for longer than the limit."""
    drip = Scripted(body=b" " * 5000, drip=0.02)
    began = time.monotonic()
    assert "in 0.2 s" in failure(asking(server, drip, timeout_seconds=0.2)).message
    assert time.monotonic() - began < 5


def test_retries_share_the_time_limit(server: FakeServer) -> None:
    """A server that asks to wait for a minute is not waited for beyond the limit of the whole call."""
    began = time.monotonic()
    waits = [fails(429, "busy", {"retry-after": "60"})] * 3
    assert "in 0.3 s" in failure(asking(server, *waits, timeout_seconds=0.3, retries=2)).message
    assert time.monotonic() - began < 5


def test_retry_after_is_waited_for(server: FakeServer) -> None:
    """What the server says about when to come back is heeded."""
    began = time.monotonic()
    model = asking(server, fails(429, "busy", {"retry-after": "0.4"}), says("hi"), retries=1)
    assert model.ask(ASK, 10).text == "hi"
    assert time.monotonic() - began >= 0.4


def test_two_calls_at_once_do_not_meet(server: FakeServer) -> None:
    """A call that is given up closes its own connection, not that of the call beside it."""
    model = asking(server, Scripted(pause=20), timeout_seconds=0.5)
    slow = threading.Thread(target=failure, args=(model,))
    slow.start()
    while not server.asked:
        time.sleep(0.01)
    server.queue.append(replace(says("hi"), pause=0.2))
    other = replace(model, timeout_seconds=5.0)
    assert other.ask(ASK, 10).text == "hi"
    slow.join()


def test_the_number_of_the_request_is_kept(server: FakeServer) -> None:
    """Who asks the provider about a call needs its number."""
    reply = asking(server, replace(says("hi"), headers={"x-request-id": "req_1"})).ask(ASK, 10)
    assert reply.request_id == "req_1"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (fails(400, "This model's maximum context length is 8192 tokens"), "the prompt is too long for m"),
        (fails(400, "no", code="context_length_exceeded"), "the prompt is too long for m"),
        (fails(400, "the request exceeds the available context size"), "the prompt is too long for m"),
        (fails(429, "You exceeded your quota", code="insufficient_quota"), "no credit left"),
        (fails(400, "Unsupported value: 'temperature'"), "refused the request (400): Unsupported value: 'temperature'"),
        (Scripted(404, b"404 page not found", kind="text/plain"), "knows no model m"),
        (Scripted(422, b'{"detail": "no such field"}'), "no such field"),
    ],
)
def test_what_the_person_can_mend_is_named(server: FakeServer, reply: Scripted, words: str) -> None:
    """Each refusal says what is wrong in words of its own, and what to do about it."""
    error = failure(asking(server, reply))
    assert words in error.message
    assert error.hint


def test_a_huge_body_is_cut_off(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body beyond the bound is not read to its end."""
    monkeypatch.setattr(module, "MAX_BODY", 10_000)
    assert "10,000 bytes" in failure(asking(server, says("x" * 2_000_000))).message


GOOD = says("hi").body


@pytest.mark.parametrize(
    "reply",
    [
        Scripted(body=GOOD[:40]),
        Scripted(body=b""),
        Scripted(body=b"<html>502</html>", kind="text/html"),
        Scripted(body=b"<html>502</html>"),
        Scripted(body=b"\xff\xfe\x00garbage"),
        Scripted(body=b"[" * 200_000),
        Scripted(body=b"9" * 5000),
        Scripted(body=GOOD, headers={"content-encoding": "gzip"}),
        Scripted(body=GOOD, hang_up=50),
        Scripted(body=GOOD, hang_up=0),
        Scripted(status=302, headers={"location": "/v1/chat/completions"}),
        Scripted(status=204),
        Scripted(status=500, body=b"\x00\xff", headers=SOON),
        Scripted(status=400, body=b"<html>max_completion_tokens</html>", kind="text/html"),
    ],
)
def test_what_is_no_answer_is_told_in_a_sentence(server: FakeServer, reply: Scripted) -> None:
    """Whatever comes over the wire, no error of a library below escapes."""
    assert failure(asking(server, *[reply] * 30))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        7,
        {},
        {"choices": None},
        {"choices": []},
        {"choices": {}},
        {"choices": "abc"},
        {"choices": [None]},
        {"choices": ["x"]},
        {"choices": [{}]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": "hi"}]},
        {"choices": [[1]]},
    ],
)
def test_an_answer_of_another_shape_has_no_choice(server: FakeServer, value: Any) -> None:
    """JSON of any shape is either an answer or one without a choice."""
    assert "without a choice" in failure(asking(server, Scripted(body=json.dumps(value).encode()))).message


def test_an_error_with_status_200_is_told(server: FakeServer) -> None:
    """Some gateways send their errors as a success; what they say is shown without the key."""
    error = failure(asking(server, sends({"error": {"message": f"no provider for {KEY}", "code": 502}})))
    assert "no provider" in error.message


def test_a_refusal_is_told(server: FakeServer) -> None:
    """A model that refuses says why, and what that cost is known."""
    reply = asking(server, says(None, refusal="I'd rather\nnot", usage=(7, 3))).ask(ASK, 10)
    assert (reply.refusal, reply.tokens_in, reply.tokens_out) == ("I'd rather not", 7, 3)
    assert asking(server, says("half", finish="content_filter")).ask(ASK, 10).refusal


def test_without_a_key(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of one's own needs no key; the default server does, and nothing is sent without one."""
    monkeypatch.delenv("OPENAI_API_KEY")
    assert asking(server, says("hi")).ask(ASK, 10).text == "hi"
    assert "holds no key" in failure(Model("m")).message
    monkeypatch.setenv("OPENAI_API_KEY", " \n")
    assert "holds no key" in failure(Model("m")).message


@pytest.mark.parametrize("key", [f"{KEY}\n", f"  {KEY}"])
def test_space_around_a_key_is_no_part_of_it(server: FakeServer, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A key read from a file often ends in a line break."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    asking(server, says("hi")).ask(ASK, 10)
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", [f"{KEY}…", f"{KEY} x", f"{KEY}\nx"])
def test_a_key_that_can_be_none(server: FakeServer, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A key that no header can hold is told by the name of its variable."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert "OPENAI_API_KEY holds a character" in failure(asking(server)).message


def test_a_key_of_another_name(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The study may name the variable that holds the key."""
    monkeypatch.setenv("MY_KEY", "abc")
    asking(server, says("hi"), key_env="MY_KEY").ask(ASK, 10)
    assert server.asked[0].headers["authorization"] == "Bearer abc"


def test_openai_is_asked_by_the_newer_name_first(server: FakeServer) -> None:
    """OpenAI itself knows max_completion_tokens for every model; a proxy of it that doesn't gets max_tokens."""
    model = asking(server, fails(422, "Unrecognized argument: max_completion_tokens"), says("a"))
    model.base_url += "/api.openai.com"
    assert model.ask(ASK, 9).text == "a"
    assert [[name for name in asked.body if "tokens" in name] for asked in server.asked] == [
        ["max_completion_tokens"],
        ["max_tokens"],
    ]


def lists(*names: Any) -> Scripted:
    """A server's list of models."""
    return sends({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


@pytest.mark.parametrize(
    ("listing", "doubt"),
    [
        (lists("m", "other"), ""),
        (lists("m:latest"), ""),
        (lists("n", "mm"), "does not list the model m, but mm, n"),
        (lists("\x1b[31mred"), "does not list the model m, but red"),
        (lists(None, 3), ""),
        (sends({"data": "m"}), ""),
        (Scripted(body=b"[" * 100_000), ""),
        (fails(404), ""),
        (fails(403), ""),
        (fails(500), ""),
        (Scripted(hang_up=0), "can't be reached"),
    ],
)
def test_a_doubt_before_anything_is_asked(server: FakeServer, listing: Scripted, doubt: str) -> None:
    """A list without the model, or nobody there, is a word ahead; a server that keeps no list of any use is fine."""
    server.listing = listing
    found = asking(server).doubt()
    assert doubt in found
    assert bool(found) == bool(doubt)
    assert not server.asked


def test_a_refused_key_is_told_before_anything_is_asked(server: FakeServer) -> None:
    """Nothing could come of a search with it."""
    server.listing = fails(401, f"wrong key {KEY}")
    with pytest.raises(ModelError, match="refused the key") as caught:
        asking(server).doubt()
    assert caught.value.fault == "setup"
    assert KEY not in str(caught.value)


def test_a_list_that_does_not_come_is_not_waited_for(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs holds up the beginning for a bounded time."""
    monkeypatch.setattr("gitresearch.model.LOOK_SECONDS", 0.2)
    server.listing = Scripted(pause=20)
    began = time.monotonic()
    assert asking(server).doubt()
    assert time.monotonic() - began < 5
