"""The desk: a parent's files to read and edit in memory, and what may be looked up beside them.

What an agent can do in a session, whatever protocol it speaks: look at trials and their files, edit, check. Each tool
takes a table of plain values, answers with text, and never raises for what it was asked. No tool writes an outcome,
and nothing here touches the repository. Text that came from trials is quoted or fenced: it is data.
"""

import difflib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from gitresearch import edit
from gitresearch.agents import Files, Request
from gitresearch.answers import Answer, EditError
from gitresearch.brief import fenced, quoted, row
from gitresearch.lineage import Node
from gitresearch.outcome import Outcome
from gitresearch.surface import Edits
from gitresearch.text import one_line, printable

ANSWER = 12_000  # characters of one tool's answer
ARGUMENTS = 20_000  # characters of a call's arguments
LINES, FOUND, LISTED, TRIALS = 400, 100, 400, 50
LONGEST_LINE = 1_000


class Refused(Exception):
    """A tool can't do what it was asked; the message is for the agent."""


@dataclass(frozen=True)
class Tool:
    """One tool: what it does, and its parameters as JSON schema; `needed` are those that must be given."""

    name: str
    what: str
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    needed: tuple[str, ...] = ()

    @property
    def schema(self) -> dict[str, Any]:
        """The parameters as a JSON schema."""
        return {"type": "object", "properties": dict(self.parameters), "required": list(self.needed)}


_TRIAL = {"type": "string", "description": "A trial by the first digits of its name; your own copy where left out."}
_PATH = {"type": "string", "description": "A file's path, as `files` lists it."}
LOOK = (
    Tool(
        "trials",
        "List trials, each with status, score and hypothesis.",
        {
            "which": {"type": "string", "enum": ["best", "latest", "failed", "kept"]},
            "specialist": {"type": "string", "description": "Only this specialist's (latest and failed)."},
            "count": {"type": "integer", "description": f"How many, at most {TRIALS}."},
        },
    ),
    Tool("show", "A trial's hypothesis, parents, outcome and why it failed.", {"trial": _TRIAL}, ("trial",)),
    Tool(
        "diff",
        "What a trial changed against its parent, or how another trial differs from it; without a trial, your edits.",
        {"trial": _TRIAL, "other": {"type": "string", "description": "The other trial."}},
    ),
    Tool("files", "List the files of your copy, or of a trial, with their sizes.", {"trial": _TRIAL}),
    Tool(
        "read",
        f"A file's lines, at most {LINES} at once.",
        {"path": _PATH, "trial": _TRIAL, "start": {"type": "integer", "description": "The first line, from 1."}},
        ("path",),
    ),
    Tool(
        "search",
        "The lines that hold a text, whatever its case, in your copy or in a trial.",
        {"text": {"type": "string", "description": "The text itself, not a pattern."}, "trial": _TRIAL},
        ("text",),
    ),
    Tool("check", "The preflight of your copy as edited: surface, syntax, and what the evaluator knows beforehand."),
    Tool("undo", "Take all your edits back."),
)
_KINDS: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float)}
_NAMES = {"string": "a text", "integer": "a whole number", "number": "a number"}


class Desk:
    """One agent's copy of a parent's files. Not for several threads."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.files: dict[str, bytes] = dict(request.files)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What can be called; an agent of the control arm has no other trials to list."""
        return LOOK if self.request.study.agent.lineage else tuple(tool for tool in LOOK if tool.name != "trials")

    @property
    def edits(self) -> Edits:
        """What the copy changes: the new bytes by path, None for a file that is gone."""
        before = self.request.files
        changed: dict[str, bytes | None] = {p: data for p, data in self.files.items() if before.get(p) != data}
        return changed | dict.fromkeys(before.keys() - self.files.keys())

    def call(self, name: str, arguments: str) -> str:
        """What a tool answers to arguments as a model wrote them; a mistake is answered with what it is."""
        try:
            tool = next((tool for tool in self.tools if tool.name == name), None)
            if tool is None:
                known = ", ".join(tool.name for tool in self.tools)
                raise Refused(f"there is no tool {one_line(name, 60)!r}; there are: {known}")
            return bounded(self.run(name, values(tool, arguments)))
        except (Refused, EditError) as refused:
            return f"Refused: {refused}"

    def run(self, name: str, given: Mapping[str, Any]) -> str:
        """One of the tools, with checked values. Refused or EditError where it can't be done."""
        tool: Callable[..., str] = getattr(self, f"_{name}")
        with nullcontext() if name == "check" else self.request.lock:  # the hook may take seconds
            return tool(**given)

    def apply(self, answer: Answer) -> None:
        """Apply an answer's blocks to the copy, all or none. EditError says all that is wrong with them."""
        surface = self.request.surface
        applied = edit.apply(answer, self.files)
        if applied.mismatches:
            raise EditError("\n\n".join(mismatch.told(surface, self.files) for mismatch in applied.mismatches))
        before, self.files = self.files, dict(self.files)
        for path, data in applied.edits.items():
            if data is None:
                self.files.pop(path, None)
            else:
                self.files[path] = data
        try:
            edit.check(self.edits, self.request.files, surface)
        except EditError:
            self.files = before
            raise

    def ready(self) -> Edits:
        """The edits, checked as a trial's. EditError where there are none or they can't be one."""
        edits = self.edits
        if not edits:
            raise EditError("the edit changes nothing")
        edit.check(edits, self.request.files, self.request.surface)
        return edits

    def _node(self, trial: str) -> Node:
        mine, named = self.request.parent.oid, self.request.lineage.find(trial.strip().lower())
        found = [node for node in named if node.offered or node.trial.oid == mine]
        if len(found) != 1:
            raise Refused(f"{len(found) or 'no'} trials begin with {one_line(trial, 60)!r}")
        return found[0]

    def _of(self, trial: str) -> Files:
        return self.request.files_of(self._node(trial).trial.oid) if trial else self.files

    def _text(self, files: Files, path: str) -> str:
        data = files.get(path.removeprefix("./"))
        if data is None:
            near = difflib.get_close_matches(path, files, 1, 0.4)
            raise Refused(f"there is no file {one_line(path, 100)!r}" + (f"; did you mean {near[0]}?" if near else ""))
        try:
            return printable(data.decode("utf-8").replace("\r\n", "\n"))
        except UnicodeDecodeError:
            raise Refused(f"{one_line(path, 100)!r} is no text") from None

    def _trials(self, which: str = "latest", specialist: str = "", count: int = 20) -> str:
        lineage, most = self.request.lineage, max(1, min(count, TRIALS))
        found = {
            "best": lambda: lineage.leaderboard(most),
            "kept": lambda: lineage.keeps(most),
            "failed": lambda: lineage.failures(most, specialist or None),
            "latest": lambda: lineage.offered(most, specialist or None),
        }
        if which not in found:
            raise Refused(f"which is one of {', '.join(found)}")
        return "\n".join(row(lineage, node) for node in found[which]()) or "(none)"

    def _show(self, trial: str) -> str:
        lineage, node = self.request.lineage, self._node(trial)
        lines = [row(lineage, node)]
        around = {"parents": lineage.parents(node.trial.oid), "children": lineage.children(node.trial.oid, 20)}
        for title, nodes in around.items():
            lines.append(f"{title}: {', '.join(other.trial.short for other in nodes if other.offered) or 'none'}")
        lines += [quoted(line, 300, "") for line in node.trial.hypothesis.body.split("\n")[:40] if line]
        outcome = self.request.outcome_of(node.trial.oid)
        if outcome is not None:
            if not self.request.study.agent.lineage:
                outcome = by_itself(outcome)
            lines.append(quoted(outcome.headline.removeprefix("# "), 300, "outcome: "))
            lines += [quoted(line, 300, "") for line in (outcome.failure.lines if outcome.failure else ())]
            for run in outcome.runs:
                metrics = ", ".join(f"{one_line(name, 60)} {value:.6g}" for name, value in run.metrics.items())
                lines.append(f"{run.purpose}: {run.status}, {metrics or 'no metric'}, train {run.train_seconds:g} s, "
                             f"artefact {run.artefact_bytes} bytes")  # fmt: skip
        return "\n".join(lines)

    def _diff(self, trial: str = "", other: str = "") -> str:
        if not trial:
            return changes(self.request.files, self._of(other) if other else self.files)
        node = self._node(trial)
        parents = self.request.lineage.parents(node.trial.oid)
        if not other and not parents:
            raise Refused("it has no parent among the trials that you are shown; give another trial")
        before = self._of(other) if other else self.request.files_of(parents[0].trial.oid)
        return changes(before, self._of(trial))

    def _files(self, trial: str = "") -> str:
        files, surface = self._of(trial), self.request.surface
        lines = [f"{one_line(path, 200)}  {len(files[path])} bytes{'  yours' if surface.touches(path) else ''}"
                 for path in sorted(files)]  # fmt: skip
        return "\n".join([*lines[:LISTED], *([f"({len(lines) - LISTED} more)"] if len(lines) > LISTED else [])])

    def _read(self, path: str, trial: str = "", start: int = 1) -> str:
        lines = self._text(self._of(trial), path).split("\n")
        first = max(1, min(start, len(lines)))
        shown, room = [], ANSWER - 200
        for line in lines[first - 1 : first - 1 + LINES]:
            room -= len(line) + 1
            if room < 0:
                break
            shown.append(line)
        last = first + len(shown) - 1
        return f"lines {first} to {last} of {len(lines)}\n{fenced(chr(10).join(shown))}"

    def _search(self, text: str, trial: str = "") -> str:
        if not text.strip():
            raise Refused("give a text to look for")
        files, wanted, found = self._of(trial), text.lower(), list[str]()
        for path in sorted(files):
            content = files[path].decode("utf-8", "replace")
            if wanted in content.lower():
                lines = content.split("\n")
                found += [f"{path}:{number}: {line}" for number, line in enumerate(lines, 1) if wanted in line.lower()]
        if not found:
            return "(nothing found)"
        more = f"\n({len(found) - FOUND} more)" if len(found) > FOUND else ""
        return fenced(printable("\n".join(line[:300] for line in found[:FOUND]))) + more

    def _check(self) -> str:
        self.ready()
        return self.request.check(self.files) or "fine: this can be submitted"

    def _undo(self) -> str:
        self.files = dict(self.request.files)
        return "your copy is the parent's again"


def values(tool: Tool, arguments: str) -> dict[str, Any]:
    """The arguments of a call, checked against the tool's parameters. Refused says what is wrong."""
    if len(arguments) > ARGUMENTS:
        raise Refused(f"the arguments are longer than {ARGUMENTS} characters")
    try:
        given = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        raise Refused("the arguments are no JSON object") from None
    if not isinstance(given, dict):
        raise Refused("the arguments are no JSON object")
    found: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in tool.parameters:
            known = ", ".join(tool.parameters) or "no parameters"
            raise Refused(f"{tool.name} has no parameter {one_line(name, 60)!r}; it has {known}")
        kind = str(tool.parameters[name]["type"])
        if kind == "integer" and isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,15}\s*", value):
            found[name] = int(value)  # small models put numbers in quotes
        elif isinstance(value, _KINDS[kind]) and not isinstance(value, bool):
            found[name] = value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        else:
            raise Refused(f"{name} must be {_NAMES[kind]}")
    missing = [name for name in tool.needed if not found.get(name)]
    if missing:
        raise Refused(f"{tool.name} needs {' and '.join(missing)}")
    return found


def changes(before: Files, after: Files) -> str:
    """A unified diff of two sets of files, fenced; of what is no text only that it differs."""
    parts: list[str] = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path, b""), after.get(path, b"")
        if old == new:
            continue
        try:
            texts = [data.decode("utf-8").splitlines() for data in (old, new)]
        except UnicodeDecodeError:
            parts.append(f"{path}: differs, and is no text")
            continue
        parts += difflib.unified_diff(texts[0], texts[1], path, path, lineterm="", n=3)
    return fenced(printable("\n".join(parts))) if parts else "(no difference)"


def bounded(text: str) -> str:
    """An answer cut at a line where it is too long, fences closed."""
    if len(text) <= ANSWER:
        return text
    kept = text[:ANSWER].rpartition("\n")[0] or text[:ANSWER]
    fence = text.rpartition("\n")[2] if set(text.rpartition("\n")[2]) == {"`"} else ""
    return "\n".join([kept, *([fence] if fence else []), f"({len(text) - len(kept)} more characters are not shown)"])


def by_itself(outcome: Outcome) -> Outcome:
    """An outcome without the other trials that it was compared with, for the control arm."""
    told = outcome.summary
    summary = told._replace(reason="", label="") if told.status in ("keep", "discard") else told
    return replace(outcome, summary=summary, decision={})
