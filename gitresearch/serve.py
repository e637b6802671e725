"""A specialist's work as tools over the Model Context Protocol: any agent that speaks it works on the same ledger.

The client reads the brief, looks around, edits a copy in memory and submits; the trial that comes of it passes the same
checks as every other, and whoever runs the evaluator measures it. No tool writes an outcome. Only this module imports
`mcp`, and only when a client is served.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from gitresearch import answers
from gitresearch.agents import Proposal, ProposalFailed, Request, trailer_word
from gitresearch.agents.desk import LOOK, Desk, Refused, Tool, bounded, by_itself, values
from gitresearch.briefing import Briefing
from gitresearch.errors import GitResearchError
from gitresearch.lineage import Lineage, Node
from gitresearch.policy import Turn
from gitresearch.propose import Proposer
from gitresearch.text import clean, one_line
from gitresearch.trial import Hypothesis

POLL_SECONDS = 0.5
LONGEST_WAIT = 600
SAID_BYTES = 1 << 18

_WHO = {"type": "string", "description": "The specialist you work as."}
_TITLE, _WHY, _EXPECT = (line.partition(": ")[2] for line in answers.HEADING.split("\n"))
OWN = (
    Tool(
        "brief",
        "What a specialist is told: the study, its role and surface, what was tried and found. Begin here: it gives "
        "you a fresh copy of the parent's files to edit. Without a specialist, it lists them.",
        {"specialist": _WHO, "parent": {"type": "string", "description": "A trial to start from; else the head."}},
    ),
    Tool(
        "propose",
        "Edit your copy by SEARCH/REPLACE, FILE or DELETE blocks, each below its file's path, as the brief shows.",
        {"edits": {"type": "string", "description": "The blocks, in plain text."}},
        ("edits",),
    ),
    Tool(
        "submit",
        "Make your edited copy a trial, with your hypothesis. It waits to be evaluated; you cannot evaluate it.",
        {
            "title": {"type": "string", "description": _TITLE},
            "why": {"type": "string", "description": _WHY},
            "expect": {"type": "number", "description": _EXPECT},
        },
        ("title",),
    ),
    Tool(
        "outcome",
        "What the evaluator found for a trial; can wait for it.",
        {
            "trial": {"type": "string", "description": "The trial, by the first digits of its name."},
            "wait": {"type": "integer", "description": f"Seconds to wait for it, at most {LONGEST_WAIT}."},
        },
        ("trial",),
    ),
)
LOOKED = {tool.name: tool for tool in LOOK}
LINEAGE = replace(LOOKED["trials"], name="lineage")
FORM = """\
# How to edit

Call `propose` with blocks, then `check`, then `submit`. A block stands below its file's path:

path/of/the/file.py
<<<<<<< SEARCH
lines copied from the file exactly, whole lines, enough to stand in one place only
=======
the lines that take their place
>>>>>>> REPLACE

A whole new file goes between `<<<<<<< FILE` and `>>>>>>> FILE`; `<<<<<<< DELETE` and `>>>>>>> DELETE` delete one."""


@dataclass
class Given:
    """The client's edit as an agent that answers with it whenever it is asked."""

    proposal: Proposal
    reads_lineage: bool = False
    resolves_conflicts: bool = False

    def propose(self, request: Request) -> Proposal:
        if request.again:
            raise ProposalFailed(request.again)
        return self.proposal


@dataclass
class Service:
    """One client's work on a study. `read` gives the lineage as it is now."""

    briefing: Briefing
    read: Callable[[], Lineage]
    check: Callable[[Mapping[str, bytes]], str] = lambda _files: ""
    client: str = "client"
    _desk: Desk | None = None
    _said: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What can be called; the control arm has no lineage to list."""
        looking = tuple(tool for name, tool in LOOKED.items() if name != "trials")
        return (*OWN, *([LINEAGE] if self.briefing.study.agent.lineage else []), *looking)

    def call(self, name: str, arguments: str) -> tuple[str, bool]:
        """What a tool answers, and whether it did what it was asked. Never raises for what a client may ask."""
        try:
            tool = next((tool for tool in self.tools if tool.name == name), None)
            if tool is None:
                raise Refused(f"there is no tool {one_line(name, 60)!r}")
            given = values(tool, arguments)
            if name == "outcome":
                return bounded(self._outcome(**given)), True
            with self._lock:
                answer = bounded(self._run(tool, given))
                self._said.append(f"-> {name} {one_line(arguments, 500)}\n{answer}")
            return answer, not answer.startswith("Refused: ")
        except GitResearchError as error:
            return f"Refused: {error}", False
        except Refused as refused:
            return f"Refused: {refused}", False

    def _run(self, tool: Tool, given: Mapping[str, Any]) -> str:
        own: dict[str, Callable[..., str]] = {"brief": self._brief, "propose": self._propose, "submit": self._submit}
        if tool.name in own:
            return own[tool.name](**given)
        desk = self._opened()
        desk.request = replace(desk.request, lineage=self._visible(desk.request.parent.oid))
        return desk.run("trials" if tool.name == "lineage" else tool.name, given)

    def _opened(self) -> Desk:
        if self._desk is None:
            raise Refused("call brief first: it gives you a copy to work on")
        return self._desk

    def _visible(self, parent: str) -> Lineage:
        """The lineage as far as this study shows it to agents."""
        lineage = self.read()
        return lineage if self.briefing.study.agent.lineage else lineage.alone(parent)

    def _brief(self, specialist: str = "", parent: str = "") -> str:
        study = self.briefing.study
        if not specialist:
            names = [f"{who.name}: {one_line(who.role, 200)} ({', '.join(who.surface)})" for who in study.specialists]
            return "Work as one of these, by calling brief again:\n" + "\n".join(names)
        who, lineage = study.specialist(specialist), self.read()
        start = one(lineage, parent) if parent else lineage.head or next(iter(lineage), None)
        if start is None:
            raise Refused("the study has no trial to start from; the person runs: gitresearch run --trials 0")
        if not start.offered:
            raise Refused(f"the outcome of {start.trial.short} is invalid: start from another trial")
        proposer = Proposer(self.briefing, Given(Proposal(_nothing(study.name, who.name), {})), self.check)
        operator = "draft" if start.trial.operator == "baseline" else "improve"
        request = proposer.request(lineage, Turn(who, operator, start.trial, study.agent.seed + len(lineage)))
        self._desk, self._said = Desk(request), []
        return f"{request.brief.rstrip()}\n\n{FORM}\n\nYou start from trial {start.trial.short}."

    def _propose(self, edits: str) -> str:
        desk = self._opened()
        desk.apply(answers.parse(edits, bare=True))
        return "Your copy is edited:\n" + desk.run("diff", {})

    def _submit(self, title: str, why: str = "", expect: float | None = None) -> str:
        desk = self._opened()
        edits = desk.ready()
        request = desk.request
        if found := self.check(desk.files):
            raise Refused(f"the preflight refuses it: {found}")
        subject, body, _ = answers.heading(f"title: {title}\nwhy: {why}")
        hypothesis = Hypothesis.from_text(
            subject, body, study=request.study.name, specialist=request.specialist.name, operator=request.operator,
            expected=expect, assisted_by=f"mcp:{trailer_word(self.client).replace(':', '-')[:100] or 'client'}",
        )  # fmt: skip
        said = clean("\n\n".join(self._said), SAID_BYTES)
        proposer = Proposer(self.briefing, Given(Proposal(hypothesis, edits, transcript=said)), self.check)
        trial, _ = proposer.answer(self.read(), request)
        self._desk = None
        return (
            f"trial {trial.oid} on branch {trial.branch}\nIt waits to be evaluated; ask for it by `outcome`. "
            "For another, call brief again."
        )

    def _outcome(self, trial: str, wait: int = 0) -> str:
        """The outcome of a trial that the client may see, as soon as it is there."""
        until = time.monotonic() + max(0, min(wait, LONGEST_WAIT))
        while True:
            node = one(self.read(), trial)
            if node.status != "pending" or time.monotonic() >= until:
                break
            time.sleep(POLL_SECONDS)
        if node.status == "pending":
            return (
                f"{node.trial.short} waits to be evaluated; the person runs: gitresearch run, or gitresearch evaluate"
            )
        outcome = self.briefing.outcome_of(node.trial.oid)
        if outcome and not self.briefing.study.agent.lineage:
            outcome = by_itself(outcome)
        lines = [*([outcome.headline.removeprefix("# ")] if outcome else [node.status])]
        lines += outcome.failure.lines if outcome and outcome.failure else ()
        return "\n".join(f"> {one_line(line, 300)}" for line in lines)


def one(lineage: Lineage, start: str) -> Node:
    """The one trial whose name begins so; Refused where there are none or several."""
    found = lineage.find(start.strip().lower())
    if len(found) != 1:
        raise Refused(f"{len(found) or 'no'} trials begin with {one_line(start, 60)!r}")
    return found[0]


def _nothing(study: str, specialist: str) -> Hypothesis:
    return Hypothesis("nothing yet", study, specialist)


def serve(service: Service) -> None:
    """Serve one client over stdin and stdout until it hangs up. GitResearchError where the extra is not installed."""
    try:
        import anyio  # noqa: PLC0415
        from mcp import types  # noqa: PLC0415
        from mcp.server.lowlevel import Server  # noqa: PLC0415
        from mcp.server.stdio import stdio_server  # noqa: PLC0415
    except ImportError:
        raise GitResearchError("the package mcp is not installed", "pip install 'gitresearch[mcp]'") from None
    import json  # noqa: PLC0415

    async def list_tools(_context: Any, _params: Any) -> Any:
        shown = [types.Tool(name=tool.name, description=tool.what, input_schema=tool.schema) for tool in service.tools]
        return types.ListToolsResult(tools=shown)

    async def call_tool(context: Any, params: Any) -> Any:
        told = getattr(getattr(context.session, "client_params", None), "client_info", None)
        service.client = getattr(told, "name", "") or service.client
        arguments = json.dumps(params.arguments or {})
        text, fine = await anyio.to_thread.run_sync(
            partial(service.call, params.name, arguments), abandon_on_cancel=params.name == "outcome"
        )
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=not fine)

    server: Any = Server("gitresearch", on_list_tools=list_tools, on_call_tool=call_tool)

    async def main() -> None:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())

    anyio.run(main)
