"""The openai agent: a talk with a model on any OpenAI-compatible server, until it submits an edit or a bound is met.

Code travels in plain text, never in a tool's JSON (docs/decisions/0011): a message's blocks edit the agent's own copy,
tools look around and check, and a message with a title and no call is the submission. A server or a model that takes no
tools is asked for the answer alone. What does not apply goes back twice with the nearest lines; what still does not is
ProposalFailed, with its cost and all that was said.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gitresearch import answers
from gitresearch.agents import Proposal, ProposalFailed, Request, Usage, trailer_word
from gitresearch.agents.desk import Desk, Tool
from gitresearch.agents.prompt import prompt, rules
from gitresearch.errors import FormatError
from gitresearch.model import Model, ModelError, NoTools
from gitresearch.reply import Call, Reply
from gitresearch.study import Study
from gitresearch.text import one_line, tokens
from gitresearch.trial import Hypothesis

REPAIRS = 2  # in a row; a tool that was used well in between starts the count anew
SAID_LIMIT = 40_000  # characters of an answer that are sent back with what is wrong with it
CALLS_AT_ONCE = 8
NOTICE = 5  # turns from the end at which the model is told how many are left
LEFT_OUT = "(left out to make room; ask again if you need it)"

Message = dict[str, Any]


class OpenAIAgent:
    """Asks the study's model, or the specialist's own."""

    reads_lineage = False
    resolves_conflicts = True

    def __init__(self, study: Study) -> None:
        self._settings = study.agent
        self._models: dict[str, Model] = {}
        self._without_tools: set[str] = set()
        for specialist in study.specialists:
            self._model(specialist.model or study.agent.model).check()

    def doubts(self) -> list[str]:
        """What speaks against a search with these models, before it begins. ModelError where a key is refused."""
        return [doubt for model in self._models.values() if (doubt := model.doubt())]

    def _model(self, name: str) -> Model:
        settings = self._settings
        made = Model(name, settings.base_url, settings.key_env, settings.timeout_seconds)
        return self._models.setdefault(name, made)

    def propose(self, request: Request) -> Proposal:
        """A checked edit. ProposalFailed with usage and transcript where none came of it."""
        model = self._model(request.specialist.model or self._settings.model)
        desk = Desk(request)
        if self._settings.tools and model.name not in self._without_tools:
            talk = Talk(model, desk, desk.tools)
            try:
                return talk.run()
            except NoTools:
                self._without_tools.add(model.name)
        return Talk(model, Desk(request), ()).run()


class Talk:
    """One proposal's messages and what they cost."""

    def __init__(self, model: Model, desk: Desk, tools: Sequence[Tool]) -> None:
        self.model, self.desk, self.request, self.tools = model, desk, desk.request, tools
        first = [("system", rules(tools)), ("user", prompt(self.request, tools))]
        self.messages: list[Message] = [{"role": role, "content": content} for role, content in first]
        self.usage = Usage()
        self.wrong = ""  # what the latest answers in a row came to nothing for
        self.repairs = 0
        self.started = time.monotonic()

    def run(self) -> Proposal:
        """The submission. ProposalFailed where a bound is met first, NoTools where the first call is refused them."""
        bounds = self.request.study.agent.session
        for left in range(bounds.turns - 1, -1, -1):
            reply = self._ask()
            if reply.refusal:
                raise self._failed(f"{self.model.name} refused: {reply.refusal}", "choose another --model")
            before = self.desk.files
            try:
                made = self._taken(reply, left)
            except (answers.EditError, FormatError) as error:
                self.desk.files = before
                self._wrong(error.message, reply)
                continue
            if made is not None:
                return made
            self.repairs = 0
        raise self._failed(f"no edit was submitted in {bounds.turns} turns")

    def _ask(self) -> Reply:
        """One more reply, paid for; ProposalFailed where the talk is at one of its bounds."""
        study, bounds = self.request.study, self.request.study.agent.session
        met = {
            f"{bounds.tokens:,} tokens": self.usage.tokens >= bounds.tokens,
            f"{bounds.dollars:g} dollars": 0 < bounds.dollars <= self.usage.dollars,
            f"{bounds.seconds:g} s": time.monotonic() - self.started >= bounds.seconds,
        }
        for bound, reached in met.items():
            if reached:
                raise self._failed(f"no edit was submitted within the {bound} of a proposal")
        self._make_room()
        settings = study.agent
        schemas = [schema(tool) for tool in self.tools]
        try:
            reply = self.model.ask(self.messages, settings.max_tokens, settings.temperature, schemas)
        except NoTools:
            if not self.usage.calls:
                raise
            raise self._failed(f"{self.model.name} took tools and takes them no more") from None
        except ModelError as error:
            raise self._failed(error.message, error) from None
        self.usage += replace(cost(reply, study, self.model.name), repairs=int(bool(self.wrong)))
        self.wrong = ""
        self.messages.append(said(reply))
        return reply

    def _taken(self, reply: Reply, left: int) -> Proposal | None:
        """Do what a reply asks for: its blocks, then its calls. The proposal where it is the submission."""
        text, told = reply.text, ""
        try:
            answers.require_short(text)
            answer = answers.parse(text, bare=bool(self.tools)) if answers.has_blocks(text) else None
            if answer is not None:
                self.desk.apply(answer)
                told = "Your copy is edited."
            if not reply.calls:
                return self._submitted(answer, text)
        except answers.EditError as error:
            if not reply.calls:
                raise
            told = f"That can't be applied, and nothing of it was. {error.message}"
        for number, call in enumerate(reply.calls):
            few = number < CALLS_AT_ONCE
            result = self.desk.call(call.name, call.arguments) if few else "Refused: too many calls at once"
            self.messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        if left <= NOTICE:
            told += f" {left} turns are left." if left > 1 else " Answer now, without calling a tool."
        if told:
            self.messages.append({"role": "user", "content": told.strip()})
        return None

    def _submitted(self, answer: answers.Answer | None, text: str) -> Proposal | None:
        """The proposal in a message without a call; None where it only edited. EditError where it is neither."""
        request = self.request
        if answer is not None and not answer.title:
            left = "Your copy is edited. Go on, or submit it: answer with title, why and expect."
            self.messages.append({"role": "user", "content": left})
            return None
        if answer is None and not self.desk.edits:
            how = " and calls no tool (text that looks like a call is none)" if self.tools else ""
            raise answers.EditError(f"the answer has no SEARCH/REPLACE, FILE or DELETE block{how}")
        title, why, expect = (answer.title, answer.why, answer.expect) if answer else answers.heading(text)
        edits = self.desk.ready()
        if found := request.check(self.desk.files):
            raise answers.EditError(f"the preflight refuses it: {found}")
        hypothesis = Hypothesis.from_text(
            title, why, study=request.study.name, specialist=request.specialist.name, operator=request.operator,
            expected=expect, assisted_by=signature(self.model.name),
        )  # fmt: skip
        return Proposal(hypothesis, edits, self.usage, transcript(self.messages))

    def _wrong(self, why: str, reply: Reply) -> None:
        """Send an answer that came to nothing back with the reason; ProposalFailed where that was done often enough."""
        cut = "\n(The answer was cut off at its length limit.)" if reply.finish_reason == "length" else ""
        self.wrong = why + cut
        self.repairs += 1
        if self.repairs > REPAIRS:
            first = self.wrong.partition("\n")[0]
            raise self._failed(f"the model's answer can't be applied: {first}")
        again = f"That can't be applied. {self.wrong}\n\nNothing of it was. Answer again, in full and in the same form."
        self.messages.append({"role": "user", "content": again})

    def _make_room(self) -> None:
        """Leave out what the oldest tools answered where the talk outgrows the model's context."""
        settings = self.request.study.agent
        room = settings.context_tokens - settings.max_tokens
        sizes = [tokens(str(message.get("content") or "")) for message in self.messages]
        for message, size in zip(self.messages[2:-1], sizes[2:-1], strict=True):
            if sum(sizes) <= room:
                return
            if message["role"] == "tool" and size > tokens(LEFT_OUT):
                sizes[sizes.index(size, 2)] = tokens(LEFT_OUT)
                message["content"] = LEFT_OUT

    def _failed(self, why: str, cause: str | ModelError = "") -> ProposalFailed:
        if isinstance(cause, ModelError):
            return ProposalFailed(why, cause.hint, self.usage, transcript(self.messages), cause.fault)
        return ProposalFailed(why, cause, self.usage, transcript(self.messages))


def schema(tool: Tool) -> dict[str, Any]:
    """A tool as chat completions describe one."""
    return {"type": "function", "function": {"name": tool.name, "description": tool.what, "parameters": tool.schema}}


def said(reply: Reply) -> Message:
    """The reply as it is sent back. Arguments that are no JSON object go back as an empty one: servers put them into
    templates that take them apart, and fail (vLLM, llama.cpp)."""
    message: Message = {"role": "assistant", "content": reply.text[:SAID_LIMIT] or None}
    if reply.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in reply.calls
        ]
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning[:SAID_LIMIT]
    elif not reply.text:
        message["content"] = "(no answer)"
    return message


def _arguments(call: Call) -> str:
    try:
        fine = isinstance(json.loads(call.arguments), dict) and len(call.arguments) <= SAID_LIMIT
    except (ValueError, RecursionError):
        fine = False
    return call.arguments if fine else "{}"


def signature(model: str) -> str:
    """`openai:MODEL` in the characters a trailer takes."""
    return f"openai:{trailer_word(model).lstrip(':')[:120] or 'unnamed'}"


def cost(reply: Reply, study: Study, model: str) -> Usage:
    """One call's usage, in dollars by the study's prices."""
    return Usage(
        calls=1,
        tokens_in=reply.tokens_in,
        tokens_cached=reply.tokens_cached,
        tokens_out=reply.tokens_out,
        tokens_reasoning=reply.tokens_reasoning,
        dollars=study.dollars(model, reply.tokens_in, reply.tokens_cached, reply.tokens_out),
        seconds=reply.seconds,
    )


def transcript(messages: Sequence[Mapping[str, Any]]) -> str:
    """What was said, without the first prompt (its brief is on record by itself)."""
    parts = []
    for message in messages[2:]:
        lines = [f"[{message['role']}]", *([message["content"]] if message.get("content") else [])]
        for call in message.get("tool_calls", ()):
            lines.append(f"-> {call['function']['name']} {one_line(call['function']['arguments'], 500)}")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
