"""The openai agent, first form: one call with brief and files, an edit in plain text, and what doesn't fit asked again.

Any OpenAI-compatible server. The stable part of the prompt (rules, format) comes first, the lineage last, so that a
provider's prompt cache can keep the beginning. What still doesn't apply after the repairs is ProposalFailed, with what
it cost and what was said.
"""

from collections.abc import Mapping

from gitresearch import edit
from gitresearch.agents import Proposal, ProposalFailed, Request, Usage
from gitresearch.errors import GitResearchError
from gitresearch.model import Model, Reply
from gitresearch.study import Agent as AgentSettings
from gitresearch.study import Study
from gitresearch.surface import Surface
from gitresearch.text import clean
from gitresearch.trial import Hypothesis

REPAIRS = 2
FILE_LIMIT = 60_000  # characters of one file that are shown
FILES_LIMIT = 160_000  # characters of all files

RULES = """\
You improve a training recipe by one change at a time. You get the study, your role, what was tried and what was found,
and the recipe's files. Propose ONE change inside your surface that you believe will improve the metric, and say why.
An evaluator you cannot influence measures it; nothing your code prints counts. A change that was tried before is waste.

Answer in exactly this form, with nothing after the last block:

title: the change in one line of at most 72 characters, imperative
why: the mechanism you expect, and what in the lineage speaks for it
expect: the change of the metric you expect, as a signed number

path/of/the/file.py
<<<<<<< SEARCH
lines copied from the file exactly, enough to stand in one place only
=======
the lines that take their place
>>>>>>> REPLACE

Several blocks are fine. A whole new file goes between `<<<<<<< FILE` and `>>>>>>> FILE` below its path."""


class OpenAIAgent:
    """Asks the study's model, or the specialist's own."""

    reads_lineage = False

    def __init__(self, study: Study) -> None:
        self._settings = study.agent
        self._models: dict[str, Model] = {}

    def _model(self, name: str) -> Model:
        settings = self._settings
        if name not in self._models:
            self._models[name] = Model(name, settings.base_url, settings.key_env, settings.timeout_seconds)
        return self._models[name]

    def propose(self, request: Request) -> Proposal:
        """A checked edit. ProposalFailed with usage and transcript where none came of it."""
        model = self._model(request.specialist.model or self._settings.model)
        messages = [{"role": "system", "content": RULES}, {"role": "user", "content": prompt(request)}]
        usage, wrong = Usage(), ""
        for attempt in range(REPAIRS + 1):
            try:
                reply = model.ask(messages, self._settings.max_tokens, self._settings.temperature)
            except GitResearchError as error:
                raise ProposalFailed(error.message, error.hint, usage, transcript(messages)) from None
            usage += cost(reply, self._settings, repair=attempt > 0)
            messages.append({"role": "assistant", "content": reply.text})
            try:
                return self._proposal(request, reply.text, usage, transcript(messages))
            except edit.EditError as error:
                cut = " (the answer was cut off at its length limit)" if reply.finish_reason == "length" else ""
                wrong = error.message + cut
            messages.append({"role": "user", "content": f"That can't be applied: {wrong}\n\nAnswer again, in full."})
        first = wrong.split("\n")[0]
        raise ProposalFailed(f"the model's answer can't be applied: {first}", "", usage, transcript(messages))

    def _proposal(self, request: Request, text: str, usage: Usage, said: str) -> Proposal:
        answer = edit.parse(text)
        applied = edit.apply(answer, request.files)
        if applied.mismatches:
            raise edit.EditError("\n".join(told(mismatch, request.surface) for mismatch in applied.mismatches[:3]))
        wrong = request.surface.violations(request.files, applied.edits) or edit.broken(applied.edits)
        if wrong:
            raise edit.EditError("; ".join(wrong[:5]))
        if all(request.files.get(path) == data for path, data in applied.edits.items()):
            raise edit.EditError("the edit changes nothing")
        hypothesis = Hypothesis.from_text(
            answer.title,
            answer.why,
            study=request.study.name,
            specialist=request.specialist.name,
            operator=request.operator,
            expected=answer.expect,
            assisted_by=signature(request.specialist.model or self._settings.model),
        )
        return Proposal(hypothesis, applied.edits, usage, said)


def signature(model: str) -> str:
    """`openai:MODEL` in the characters a trailer takes."""
    name = "".join(char if char.isascii() and char.isprintable() and not char.isspace() else "-" for char in model)
    return f"openai:{name.lstrip(':')[:120] or 'unnamed'}"


def told(mismatch: edit.Mismatch, surface: Surface) -> str:
    """A mismatch for the agent, with the nearest text of the file."""
    where = "" if surface.touches(mismatch.block.path) else " (and that file is outside your surface)"
    near = f"\nThe nearest lines there are:\n{mismatch.nearest}" if mismatch.nearest else ""
    return f"{mismatch.why}{where}.{near}"


def cost(reply: Reply, settings: AgentSettings, *, repair: bool) -> Usage:
    """One call's usage, in dollars by the study's prices."""
    dollars = reply.tokens_in * settings.dollars_per_million_in + reply.tokens_out * settings.dollars_per_million_out
    return Usage(
        calls=1,
        tokens_in=reply.tokens_in,
        tokens_cached=reply.tokens_cached,
        tokens_out=reply.tokens_out,
        tokens_reasoning=reply.tokens_reasoning,
        dollars=dollars / 1e6,
        seconds=reply.seconds,
        repairs=int(repair),
    )


def prompt(request: Request) -> str:
    """The brief, then the files: those of the surface first and whole, the others while there is room."""
    shown, room = [], FILES_LIMIT
    order = sorted(request.files, key=lambda path: (not request.surface.touches(path), path))
    for path in order:
        text = _text(request.files[path])
        if text is None or len(text) > min(room, FILE_LIMIT):
            shown.append(f"(not shown: {path}, {len(request.files[path])} bytes)")
            continue
        room -= len(text)
        mark = "yours to edit" if request.surface.touches(path) else "not yours"
        shown.append(f"===== {path} ({mark}) =====\n{text}")
    parent = f"You start from trial {request.parent.short}; the operator is {request.operator}."
    return f"{request.brief}\n# The files\n{parent}\n\n" + "\n".join(shown)


def _text(data: bytes) -> str | None:
    try:
        return clean(data.decode("utf-8"), 1 << 20)
    except UnicodeDecodeError:
        return None


def transcript(messages: list[dict[str, str]]) -> str:
    """What was said, without the first prompt (its brief is on record by itself)."""
    rows: list[Mapping[str, str]] = list(messages[2:])
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in rows)
