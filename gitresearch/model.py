"""The only door to a language model: messages in, text and usage out, over any OpenAI-compatible server.

Chat completions, because every compatible server has them (vLLM, llama.cpp, Ollama, LiteLLM, OpenAI itself), and plain
`create`: the client's `parse` raises errors of another library and loses the usage. The client retries connection
errors, 408, 409, 429 and 5xx with backoff and honours Retry-After; one clock over all of it ends the call. The body is
read by us, within a bound, and as plain JSON: what a server sends has many shapes.

A key is read from its variable when it is needed, goes to the client alone, and is in no error, repr or transcript.
"""

import difflib
import json
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gitresearch import reply
from gitresearch.errors import Fault, GitResearchError
from gitresearch.reply import Reply
from gitresearch.text import one_line

RETRIES = 4
MAX_BODY = 16 << 20
LOOK_SECONDS = 10.0
_LIMITS = ("max_tokens", "max_completion_tokens")
# How servers say that they take no tools: Ollama "… does not support tools", vLLM "… requires --enable-auto-tool-choice
# and --tool-call-parser …", llama.cpp "tools param requires --jinja flag", LiteLLM "… does not support parameters: …".
_NO_TOOLS = re.compile(
    r"\btools?\b.{0,60}(?:support|require|enable|unknown|unrecogni|not |unexpected|extra)|"
    r"(?:support|require|enable|unknown|unrecogni|unexpected|extra).{0,60}\btools?\b",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(r"context.{0,20}(?:length|size|window)|too many tokens|prompt is too long", re.IGNORECASE)


class ModelError(GitResearchError):
    """The model could not be asked, or gave no answer; `fault` says whose affair that is."""

    def __init__(self, message: str, hint: str = "", fault: Fault = "answer") -> None:
        super().__init__(message, hint)
        self.fault = fault


class NoTools(ModelError):
    """The server or the model takes no tools; the same can be asked without."""


@dataclass
class Model:
    """One model on one server. `timeout_seconds` is for one answer with all its retries."""

    name: str
    base_url: str = ""
    key_env: str = "OPENAI_API_KEY"
    timeout_seconds: float = 300.0
    retries: int = RETRIES
    _limit: str = field(default="", repr=False)  # the name by which the server took the length limit

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.where!r})"

    @property
    def where(self) -> str:
        """The server, as an error names it: without a password that its address may hold."""
        return one_line(re.sub(r"//[^/@]*@", "//", self.base_url), 200) or "OpenAI's server"

    def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        max_tokens: int,
        temperature: float | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Reply:
        """One answer. ModelError in a sentence for whatever goes wrong; NoTools where it can't be given any.

        The client's timeout starts anew with every byte and every retry, so the call runs beside a clock of ours; what
        is late is left to end by itself, on a connection of its own.
        """
        request: dict[str, Any] = {"model": self.name, "messages": list(messages)}
        if temperature is not None:
            request["temperature"] = temperature
        if tools:
            request["tools"] = list(tools)
        call = _Chat(self._connect(), request, max_tokens, self._limit or self._first_limit())
        started = time.monotonic()
        if not call.ended(self.timeout_seconds):
            raise self._too_slow()
        if call.error is not None:
            error = self._told(call.error)
            raise NoTools(error.message, error.hint) if tools and _NO_TOOLS.search(error.message) else error
        self._limit = call.limit
        return self._reply(call.done, time.monotonic() - started, call.request_id)

    def doubt(self) -> str:
        """What speaks against a search with this model before anything is asked of it: nobody is there, or the server's
        list of models has others. ModelError where it refuses the key. Nothing where it keeps no list."""
        import openai  # noqa: PLC0415

        call = _List(replace(self, timeout_seconds=LOOK_SECONDS, retries=0)._connect())
        if not call.ended(LOOK_SECONDS):
            return f"{self.where} sent no list of its models in {LOOK_SECONDS:g} s"
        if isinstance(call.error, openai.AuthenticationError):  # 403 may be for the list alone
            raise self._told(call.error)
        if isinstance(call.error, openai.APIConnectionError):
            told = self._told(call.error)
            return f"{told.message}; {told.hint}"
        listed = reply.get(call.done, "data")
        found = [reply.get(item, "id") for item in listed] if isinstance(listed, list) else []
        names = {name for name in found if isinstance(name, str)}
        if not names or self.name in names or f"{self.name}:latest" in names:
            return ""
        near = difflib.get_close_matches(self.name, names, 3, 0) or sorted(names)[:3]
        return f"{self.where} does not list the model {self.name}, but {one_line(', '.join(near))}"

    def check(self) -> str:
        """The key. ModelError where the set-up can't work whatever the server says."""
        key = self._key()
        if not key and not self.base_url:
            raise ModelError(f"the variable {self.key_env} holds no key", f"export {self.key_env}=…", "setup")
        if not re.fullmatch("[!-~]*", key):
            hint = f"export {self.key_env}=…"
            raise ModelError(f"the variable {self.key_env} holds a character that no key has", hint, "setup")
        if self.base_url and not re.match(r"https?://[^/\s]", self.base_url):
            raise ModelError(f"{self.where!r} doesn't begin with http:// or https://", "mend --base-url", "setup")
        return key

    def _connect(self) -> Any:
        """A client of its own for each call: one that was given up can then be closed under nobody else's feet."""
        key = self.check()
        import openai  # noqa: PLC0415  (half a second that only this agent pays)

        try:
            return openai.OpenAI(
                api_key=key or "none",  # a local server wants no key, but the client insists on one
                base_url=self.base_url or "https://api.openai.com/v1",
                timeout=self.timeout_seconds,
                max_retries=self.retries,
            )
        except Exception as error:  # of the libraries below, which take the address apart
            raise ModelError(
                f"{self.where!r} is no address: {type(error).__name__}", "mend --base-url", "setup"
            ) from None

    def _key(self) -> str:
        return os.environ.get(self.key_env, "").strip()

    def _first_limit(self) -> str:
        """The name to try first. OpenAI refuses the old one for newer models; Ollama ignores the new one in silence
        (ollama/ollama#7125), which would leave the answer without a limit."""
        return "max_tokens" if self.base_url and "api.openai.com" not in self.base_url else "max_completion_tokens"

    def _reply(self, done: Any, seconds: float, request_id: str) -> Reply:
        choice = reply.get(reply.get(done, "choices"), 0)
        message, usage = reply.get(choice, "message"), reply.get(done, "usage")
        if not isinstance(message, dict):
            said = reply.words(done)
            what = f": {self._without_key(said)}" if said else ""
            raise ModelError(f"{self.where} answered without a choice{what}", "check --base-url and --model")
        finish, refusal = reply.get(choice, "finish_reason"), message.get("refusal")
        if finish == "content_filter" and not refusal:
            refusal = "a content filter stopped the answer"
        return Reply(
            text=reply.text(message.get("content")),
            calls=reply.calls(message.get("tool_calls")),
            reasoning=reply.text(message.get("reasoning_content")),
            finish_reason=one_line(finish, 40) if isinstance(finish, str) else "",
            tokens_in=reply.count(usage, "prompt_tokens"),
            tokens_cached=reply.count(reply.get(usage, "prompt_tokens_details"), "cached_tokens"),
            tokens_out=reply.count(usage, "completion_tokens"),
            tokens_reasoning=reply.count(reply.get(usage, "completion_tokens_details"), "reasoning_tokens"),
            seconds=seconds,
            request_id=one_line(request_id, 100),
            refusal=one_line(refusal, 200) if isinstance(refusal, str) else "",
        )

    def _too_slow(self) -> ModelError:
        hint = "raise agent.timeout_seconds in study.toml, or choose another --model"
        return ModelError(f"{self.where} gave no answer in {self.timeout_seconds:g} s", hint)

    def _told(self, error: Exception) -> ModelError:
        """One sentence and what to do for each way the client fails. The key is never in it."""
        import openai  # noqa: PLC0415

        if isinstance(error, openai.APITimeoutError):
            return self._too_slow()
        if isinstance(error, openai.APIConnectionError):
            return ModelError(
                f"{self.where} can't be reached", "check that it runs, the network, and --base-url", "outage"
            )
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return ModelError(f"{self.where} refused the key in {self.key_env}", f"export {self.key_env}=…", "setup")
        if isinstance(error, openai.APIStatusError):
            said = self._without_key(reply.words(error.body) or error.message)
            return self._refused(error.status_code, error.code, said)
        if isinstance(error, _TooLarge):
            return ModelError(f"{self.where} sent more than {MAX_BODY:,} bytes", "choose another --model")
        return ModelError(f"{self.where} sent what can't be read: {type(error).__name__}", "check --base-url")

    def _refused(self, status: int, code: str | None, said: str) -> ModelError:
        """What an HTTP error means."""
        if status == 404:
            hint = "--model NAME, or --base-url URL/v1"
            return ModelError(f"{self.where} knows no model {self.name}: {said}", hint, "setup")
        if code == "insufficient_quota":
            return ModelError(f"{self.where} says the account has no credit left: {said}", "add credit", "setup")
        if status == 429:
            return ModelError(f"{self.where} asks to slow down: {said}", "wait, or lower --jobs", "outage")
        if code == "context_length_exceeded" or _TOO_LONG.search(said):
            return ModelError(
                f"the prompt is too long for {self.name}: {said}",
                "--model NAME with a longer context, or lower agent.context_tokens in study.toml",
            )
        hint = "try again, or see [agent] in study.toml"
        if status >= 500:
            return ModelError(f"{self.where} failed ({status}): {said}", hint, "outage")
        return ModelError(f"{self.where} refused the request ({status}): {said}", hint)

    def _without_key(self, said: str) -> str:
        key = self._key()
        return one_line(said.replace(key, "…") if key else said, 200)


class _TooLarge(Exception):
    """The body is beyond the bound."""


class _Call(ABC):
    """One call in a thread of its own: the JSON value that came back, or the error."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.done: Any = None
        self.request_id = ""
        self.error: Exception | None = None

    def ended(self, seconds: float) -> bool:
        """Whether it came to an end within the time; one that did not is left without a connection."""
        thread = threading.Thread(target=self._run, name="ask", daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            self.client.close()
        return not thread.is_alive()

    def _run(self) -> None:
        try:
            self.done = self._create()
        except Exception as error:  # of whatever library: it is told in the caller's thread
            self.error = error
        finally:
            self.client.close()

    @abstractmethod
    def _create(self) -> Any:
        """Ask, and read what comes back."""

    def _read(self, response: Any) -> Any:
        self.request_id = response.headers.get("x-request-id", "")
        body = bytearray()
        for part in response.iter_bytes():
            body += part
            if len(body) > MAX_BODY:
                raise _TooLarge
        return json.loads(body)


class _List(_Call):
    """The server's models."""

    def _create(self) -> Any:
        with self.client.models.with_streaming_response.list() as response:
            return self._read(response)


class _Chat(_Call):
    """An answer."""

    def __init__(self, client: Any, request: Mapping[str, Any], max_tokens: int, limit: str) -> None:
        super().__init__(client)
        self.request, self.max_tokens, self.limit = request, max_tokens, limit

    def _create(self) -> Any:
        """Ask; where the server refuses the length limit by its name, ask once more by the other."""
        import openai  # noqa: PLC0415

        refused = (openai.BadRequestError, openai.UnprocessableEntityError)
        try:
            return self._fetch(self.limit)
        except refused as error:
            if not re.search(rf"\b{self.limit}\b", str(error)):
                raise
            other = next(name for name in _LIMITS if name != self.limit)
            try:
                done = self._fetch(other)
            except refused:
                raise error from None  # it was the number, not the name
            self.limit = other
            return done

    def _fetch(self, limit: str) -> Any:
        create = self.client.chat.completions.with_streaming_response.create
        with create(**self.request, **{limit: self.max_tokens}) as response:
            return self._read(response)
