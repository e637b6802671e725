"""The only door to a language model: messages in, text and usage out, over any OpenAI-compatible server.

Chat completions, because every compatible server has them (vLLM, llama.cpp, Ollama, LiteLLM, OpenAI itself), and plain
`create`: the client's `parse` raises errors of another library and loses the usage. The client retries connection
errors, 408, 409, 429 and 5xx with backoff and honours Retry-After; one clock over all of it ends the call.

A key is read from its variable when it is needed, goes to the client alone, and is in no error, repr or transcript.
"""

import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitresearch.errors import GitResearchError
from gitresearch.text import one_line

RETRIES = 4
MAX_BODY = 16 << 20
_LIMITS = ("max_tokens", "max_completion_tokens")
_TOO_LONG = re.compile(r"context.{0,20}(?:length|size|window)|too many tokens|prompt is too long", re.IGNORECASE)


@dataclass(frozen=True)
class Reply:
    """A model's answer; tokens as the server counted them. `refusal` is why it would not answer."""

    text: str
    finish_reason: str
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    tokens_reasoning: int = 0
    seconds: float = 0.0
    request_id: str = ""
    refusal: str = ""


class ModelError(GitResearchError):
    """The model could not be asked, or gave no answer."""


@dataclass
class Model:
    """One model on one server. `timeout_seconds` is for one answer with all its retries."""

    name: str
    base_url: str = ""
    key_env: str = "OPENAI_API_KEY"
    timeout_seconds: float = 300.0
    _limit: str = field(default="", repr=False)  # the name by which the server took the length limit

    @property
    def where(self) -> str:
        """The server, as an error names it: without a password that its address may hold."""
        return re.sub(r"//[^/@]*@", "//", self.base_url) or "OpenAI's server"

    def ask(self, messages: Sequence[Mapping[str, str]], max_tokens: int, temperature: float | None = None) -> Reply:
        """One answer. ModelError in a sentence for whatever goes wrong.

        The client's timeout starts anew with every byte and every retry, so the call runs beside a clock of ours; what
        is late is left to end by itself, on a connection of its own.
        """
        client = self._connect()
        call = _Call(client, self._request(messages, temperature), max_tokens, self._limit or self._first_limit())
        started = time.monotonic()
        thread = threading.Thread(target=call.run, name=f"ask {self.name}", daemon=True)
        thread.start()
        thread.join(self.timeout_seconds)
        if thread.is_alive():
            client.close()
            raise self._too_slow()
        if call.error is not None:
            raise self._told(call.error)
        self._limit = call.limit
        return self._reply(call.done, time.monotonic() - started)

    def _connect(self) -> Any:
        import openai  # noqa: PLC0415

        # A local server wants no key, but the client insists on one.
        key = self._key() or ("none" if self.base_url else "")
        if not key:
            raise ModelError(f"the variable {self.key_env} holds no key", f"export {self.key_env}=…")
        if not re.fullmatch("[!-~]+", key):
            raise ModelError(
                f"the variable {self.key_env} holds a character that no key has", f"export {self.key_env}=…"
            )
        return openai.OpenAI(
            api_key=key, base_url=self.base_url or None, timeout=self.timeout_seconds, max_retries=self.retries
        )

    def _key(self) -> str:
        return os.environ.get(self.key_env, "").strip()

    def ask(self, messages: Sequence[Mapping[str, str]], max_tokens: int, temperature: float | None = None) -> Reply:
        """One answer. ModelError in a sentence for whatever goes wrong."""
        import openai  # noqa: PLC0415

        started = time.monotonic()
        try:
            if self._client is None:
                self._client = self._connect()
            done = self._create(messages, max_tokens, temperature)
        except openai.OpenAIError as error:
            raise self._told(error) from None
        except GitResearchError:
            raise
        except Exception as error:  # of the libraries below the client, which change with its version
            raise self._unread(error) from None
        return self._reply(done, time.monotonic() - started)

    def _create(self, messages: Sequence[Mapping[str, str]], max_tokens: int, temperature: float | None) -> Any:
        """Ask; where the server knows the length limit only by its other name, ask again by that, once and for all."""
        import openai  # noqa: PLC0415

        refused = (openai.BadRequestError, openai.UnprocessableEntityError)
        options: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
        fixed = {"model": self.name, "messages": list(messages), **options}
        try:
            return self._fetch({**fixed, self._length_name: max_tokens})
        except refused as error:
            if self._length_name not in str(error) or self._length_name == "max_tokens":
                raise
            try:
                done = self._fetch({**fixed, "max_tokens": max_tokens})
            except refused:
                raise error from None  # it was the number, not the name
        self._length_name = "max_tokens"
        return done

    def _fetch(self, options: Mapping[str, Any]) -> Any:
        """The JSON value of one answer, read within bounds of size and time."""
        raw = bytearray()
        with self._client.chat.completions.with_streaming_response.create(**options) as response:
            deadline = time.monotonic() + self.timeout_seconds
            for part in response.iter_bytes():
                raw += part
                if len(raw) > MAX_BODY:
                    raise ModelError(f"{self._where} sent an answer of more than {MAX_BODY:,} bytes", "another --model")
                if time.monotonic() > deadline:
                    raise TimeoutError
        return json.loads(raw)

    def _reply(self, done: Any, seconds: float) -> Reply:
        choice = _item(_item(done, "choices"), 0)
        message, usage = _item(choice, "message"), _item(done, "usage")
        if not isinstance(message, dict):
            said = _item(_item(done, "error"), "message")  # some gateways send an error with status 200
            why = f": {self._quoted(said)}" if isinstance(said, str) else ""
            raise ModelError(f"{self.name} answered without a choice{why}", "gitresearch run again, or another --model")
        if message.get("refusal"):
            raise ModelError(f"{self.name} refused: {self._quoted(str(message['refusal']))}", "another --model")
        return Reply(
            text=_text(message.get("content")),
            finish_reason=_text(_item(choice, "finish_reason")),
            tokens_in=_count(usage, "prompt_tokens"),
            tokens_cached=_count(_item(usage, "prompt_tokens_details"), "cached_tokens"),
            tokens_out=_count(usage, "completion_tokens"),
            tokens_reasoning=_count(_item(usage, "completion_tokens_details"), "reasoning_tokens"),
            seconds=seconds,
        )

    @property
    def _where(self) -> str:
        return re.sub("//[^/@]*@", "//", self.base_url) or "the default server"

    def _quoted(self, said: str) -> str:
        """What the server said, on one line; it may repeat the key."""
        key = self._key()
        return one_line(said.replace(key, "…") if key else said, 200)

    def _told(self, error: Exception) -> ModelError:
        """One sentence and the command to type for each way the client fails. The key is never in it."""
        import openai  # noqa: PLC0415

        where = self._where
        said = self._quoted(str(getattr(error, "message", error)))
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return ModelError(f"{where} refused the key in {self.key_env}", f"export {self.key_env}=…")
        if isinstance(error, openai.NotFoundError):
            return ModelError(
                f"{where} knows no model {self.name}: {said}", "gitresearch run --agent openai --model NAME"
            )
        if isinstance(error, openai.APITimeoutError):
            return self._late(self.retries + 1)
        if isinstance(error, openai.APIConnectionError):
            return ModelError(f"{where} can't be reached", "check the network, or --base-url")
        if isinstance(error, openai.RateLimitError):
            return ModelError(f"{where} asks to slow down: {said}", "wait, or lower --jobs")
        return ModelError(f"{where} failed: {said}", "gitresearch run again")

    def _late(self, times: int) -> ModelError:
        often = f", {times} times" if times > 1 else ""
        return ModelError(
            f"{self._where} gave no whole answer in {self.timeout_seconds:g} s{often}",
            "raise agent.timeout_seconds, or choose another --model",
        )

    def _unread(self, error: Exception) -> ModelError:
        """What went wrong below the client: a broken connection, a body that is no JSON, a URL that is none."""
        kind = type(error).__name__
        if "Timeout" in kind:
            return self._late(1)
        if "URL" in kind:
            return ModelError(f"{self._where} is no address of a server", "check --base-url")
        return ModelError(
            f"{self._where} sent no readable answer ({kind})", "gitresearch run again, or check --base-url"
        )


def _item(value: Any, key: str | int) -> Any:
    """A part of a JSON value; None where the value isn't of that kind or has no such part."""
    if isinstance(key, str):
        return value.get(key) if isinstance(value, dict) else None
    return value[key] if isinstance(value, list) and key < len(value) else None


def _text(value: Any) -> str:
    """Text that can be encoded: JSON may hold half a surrogate pair."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""


def _count(usage: Any, name: str) -> int:
    """A token count; servers leave some out or send null."""
    value = _item(usage, name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
