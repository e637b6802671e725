"""The only door to a language model: messages in, text and usage out, over any OpenAI-compatible server.

Chat completions, because every compatible server has them (vLLM, llama.cpp, Ollama, LiteLLM, OpenAI itself), and plain
`create`: the client's `parse` raises errors of another library and loses the usage. The client retries connection
errors, 408, 409, 429 and 5xx with backoff and honours Retry-After. A key never leaves this module.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitresearch.errors import GitResearchError
from gitresearch.text import one_line

RETRIES = 4


class ModelError(GitResearchError):
    """The model could not be asked, or gave no answer."""


@dataclass(frozen=True)
class Reply:
    """A model's answer; tokens as the server counted them."""

    text: str
    finish_reason: str
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    tokens_reasoning: int = 0
    seconds: float = 0.0


@dataclass
class Model:
    """One model on one server. The client is made on the first call: importing it takes half a second."""

    name: str
    base_url: str = ""
    key_env: str = "OPENAI_API_KEY"
    timeout_seconds: float = 300.0
    _client: Any = field(default=None, repr=False)
    _length_name: str = field(default="max_completion_tokens", repr=False)

    def _connect(self) -> Any:
        import openai  # noqa: PLC0415

        # A local server wants no key, but the client insists on one.
        key = os.environ.get(self.key_env) or ("none" if self.base_url else "")
        if not key:
            raise ModelError(f"the variable {self.key_env} holds no key", f"export {self.key_env}=…")
        return openai.OpenAI(
            api_key=key, base_url=self.base_url or None, timeout=self.timeout_seconds, max_retries=RETRIES
        )

    def ask(self, messages: Sequence[Mapping[str, str]], max_tokens: int, temperature: float | None = None) -> Reply:
        """One answer. ModelError in a sentence for whatever goes wrong."""
        import openai  # noqa: PLC0415

        if self._client is None:
            self._client = self._connect()
        started = time.monotonic()
        try:
            done = self._create(messages, max_tokens, temperature)
        except openai.OpenAIError as error:
            raise self._told(error) from None
        return self._reply(done, time.monotonic() - started)

    def _create(self, messages: Sequence[Mapping[str, str]], max_tokens: int, temperature: float | None) -> Any:
        """Ask; where the server knows the length limit only by its other name, ask again by that, once and for all."""
        import openai  # noqa: PLC0415

        options: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
        fixed = {"model": self.name, "messages": list(messages), **options}
        try:
            return self._client.chat.completions.create(**fixed, **{self._length_name: max_tokens})
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if self._length_name not in str(error) or self._length_name == "max_tokens":
                raise
            self._length_name = "max_tokens"
            return self._client.chat.completions.create(**fixed, max_tokens=max_tokens)

    def _reply(self, done: Any, seconds: float) -> Reply:
        choices = getattr(done, "choices", None)
        if not choices or getattr(choices[0], "message", None) is None:
            raise ModelError(f"{self.name} answered without a choice", "gitresearch run again, or another --model")
        message, usage = choices[0].message, getattr(done, "usage", None)
        if getattr(message, "refusal", None):
            raise ModelError(f"{self.name} refused: {one_line(str(message.refusal), 120)}", "another --model")
        into = getattr(usage, "prompt_tokens_details", None)
        out = getattr(usage, "completion_tokens_details", None)
        return Reply(
            text=message.content if isinstance(message.content, str) else "",
            finish_reason=str(choices[0].finish_reason or ""),
            tokens_in=_count(usage, "prompt_tokens"),
            tokens_cached=_count(into, "cached_tokens"),
            tokens_out=_count(usage, "completion_tokens"),
            tokens_reasoning=_count(out, "reasoning_tokens"),
            seconds=seconds,
        )

    def _told(self, error: Exception) -> ModelError:
        """One sentence and the command to type for each way the client fails. The key is never in it."""
        import openai  # noqa: PLC0415

        where = self.base_url or "the default server"
        said = one_line(str(getattr(error, "message", error)), 200)
        key = os.environ.get(self.key_env)
        said = said.replace(key, "…") if key else said
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return ModelError(f"{where} refused the key in {self.key_env}", f"export {self.key_env}=…")
        if isinstance(error, openai.NotFoundError):
            return ModelError(
                f"{where} knows no model {self.name}: {said}", "gitresearch run --agent openai --model NAME"
            )
        if isinstance(error, openai.APITimeoutError):
            return ModelError(
                f"{where} gave no answer in {self.timeout_seconds:g} s, {RETRIES + 1} times",
                "raise agent.timeout_seconds, or choose another --model",
            )
        if isinstance(error, openai.APIConnectionError):
            return ModelError(f"{where} can't be reached", "check the network, or --base-url")
        if isinstance(error, openai.RateLimitError):
            return ModelError(f"{where} asks to slow down: {said}", "wait, or lower --jobs")
        return ModelError(f"{where} failed: {said}", "gitresearch run again")


def _count(usage: Any, name: str) -> int:
    """A token count; servers leave some out or send null."""
    value = getattr(usage, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
