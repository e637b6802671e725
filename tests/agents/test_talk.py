"""A talk with a model that has tools, by the real client against a scripted server that does whatever servers do."""

import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from gitresearch.agents import ProposalFailed, Request
from gitresearch.agents.desk import ANSWER, LOOK, Desk
from gitresearch.agents.openai import CALLS_AT_ONCE, LEFT_OUT, REPAIRS, OpenAIAgent
from gitresearch.asking import Session
from gitresearch.model import ModelError
from gitresearch.study import Study, load
from gitresearch.text import is_safe
from tests.agents.test_openai import EVIL, FILES, GOOD, STUDY, server, setting
from tests.fake_server import FakeServer, Scripted, fails, says

__all__ = ["server"]
BLOCK = GOOD.partition("\n\n")[2]  # the edit without its title
TITLE = GOOD.partition("\n\n")[0]


def calls(*wanted: tuple[str, Any], text: str | None = None, usage: Any = (100, 10), **more: Any) -> Scripted:
    """A reply that calls tools: name and arguments, as a table or as the very text."""
    items = [
        {"id": f"c{number}", "type": "function", "function": {
            "name": name, "arguments": given if isinstance(given, str) else json.dumps(given)}}
        for number, (name, given) in enumerate(wanted)
    ]  # fmt: skip
    return says(text, finish="tool_calls", usage=usage, tool_calls=items, **more)


def talking(server: FakeServer, *queue: Scripted, **settings: Any) -> tuple[Study, Request]:
    """A turn whose agent may use tools; `settings` are the agent's."""
    server.queue.extend(queue)
    study, request = setting(server)
    study = replace(study, agent=replace(study.agent, tools=True, **settings))
    return study, replace(request, study=study)


def results(server: FakeServer) -> list[str]:
    """What the tools answered, as the last request holds it."""
    return [message["content"] for message in server.asked[-1].messages if message["role"] == "tool"]


def test_it_looks_edits_checks_and_submits(server: FakeServer) -> None:
    """Tools first, an edit in plain text, a check of the edited copy, then the title alone: one trial's worth."""
    study, request = talking(
        server, calls(("files", {}), ("read", {"path": "other.py"})), says(BLOCK), calls(("check", {})), says(TITLE)
    )
    found = OpenAIAgent(study).propose(request)

    assert found.edits == {"train.py": b"import math\n\nLR = 0.2\nSTEPS = 100\n"}
    assert (found.hypothesis.subject, found.hypothesis.expected) == ("raise the learning rate", -0.02)
    assert (found.usage.calls, found.usage.tokens_in, found.usage.repairs) == (4, 400, 0)
    files, read, check = results(server)
    assert "train.py  " in files
    assert "yours" in files
    assert "WIDTH = 8" in read
    assert check.startswith("fine")
    assert [tool["function"]["name"] for tool in server.asked[0].body["tools"]] == [tool.name for tool in LOOK]
    assert "-> read" in found.transcript
    assert "WIDTH = 8" in found.transcript


def test_one_message_is_enough(server: FakeServer) -> None:
    """A model that needs no tool answers as it would without them."""
    study, request = talking(server, says(GOOD))
    assert OpenAIAgent(study).propose(request).usage.calls == 1


def test_blocks_beside_a_call_are_applied_before_it(server: FakeServer) -> None:
    """The tool works on the copy as the same message edits it."""
    study, request = talking(server, calls(("diff", {}), text=BLOCK), says(TITLE))
    assert OpenAIAgent(study).propose(request).edits
    assert "+LR = 0.2" in results(server)[0]
    assert server.asked[-1].messages[-1]["content"] == "Your copy is edited."


def test_a_block_that_does_not_fit_beside_a_call_is_told(server: FakeServer) -> None:
    """Its calls are answered all the same, and it may go on."""
    study, request = talking(server, calls(("files", {}), text=BLOCK.replace("LR = 0.1", "LR = 7")), says(GOOD))
    assert OpenAIAgent(study).propose(request).edits
    assert "stands nowhere in train.py" in server.asked[-1].messages[-1]["content"]


def test_a_submission_that_is_refused_leaves_the_copy_as_it_was(server: FakeServer) -> None:
    """What the evaluator's preflight refuses is not applied, so that the whole answer can be given again."""
    study, request = talking(server, says(GOOD), says(GOOD.replace("0.2", "0.3")))
    request = replace(request, check=lambda files: "" if b"0.3" in files["train.py"] else "size_blocked: too large")
    found = OpenAIAgent(study).propose(request)
    assert found.edits == {"train.py": b"import math\n\nLR = 0.3\nSTEPS = 100\n"}
    assert "size_blocked: too large" in server.asked[1].messages[-1]["content"]
    assert found.usage.repairs == 1


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("reed", {"path": "train.py"}, "there is no tool 'reed'"),
        ("", {}, "there is no tool 'unnamed'"),
        ("_diff", {}, "there is no tool"),
        ("apply", {}, "there is no tool"),
        ("read", "{path: train.py", "no JSON object"),
        ("read", '["train.py"]', "no JSON object"),
        ("read", "[" * 100_000, "longer than"),
        ("read", "[" * 19_000, "no JSON object"),
        ("read", "", "read needs path"),
        ("read", {"path": 3}, "path must be a text"),
        ("read", {"path": "train.py", "start": True}, "start must be a whole number"),
        ("read", {"path": "train.py", "start": "two"}, "start must be a whole number"),
        ("read", {"path": "train.py", "lines": 2}, "no parameter 'lines'"),
        ("read", {"path": "trian.py"}, "did you mean train.py"),
        ("read", {"path": "../../etc/passwd"}, "there is no file"),
        ("read", {"path": "blob.bin"}, "is no text"),
        ("read", {"path": "train.py", "trial": "ffff"}, "no trials begin with 'ffff'"),
        ("show", {"trial": "000"}, "no trials begin with"),
        ("show", {"trial": "0000"}, "2 trials begin with"),
        ("search", {"text": "  "}, "give a text"),
        ("trials", {"which": "worst"}, "which is one of"),
        ("diff", {"trial": f"{1:040x}"}, "no parent"),
        ("check", {}, "changes nothing"),
    ],
)
def test_a_call_that_can_not_be_done_is_answered_with_why(
    server: FakeServer, name: str, arguments: Any, words: str
) -> None:
    """Malformed, mistaken or hostile: one sentence back, and the talk goes on."""
    study, request = talking(server, calls((name, arguments)), says(GOOD))
    assert OpenAIAgent(study).propose(request).edits
    (told,) = results(server)
    assert told.startswith("Refused: ")
    assert words in told
    assert len(told) < 400
    assert is_safe(told)
    sent = server.asked[-1].messages[2]["tool_calls"][0]["function"]  # type: ignore[index]
    assert isinstance(json.loads(sent["arguments"]), dict)  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("read", {"path": "train.py", "start": "3", "trial": None}, "lines 3 to 5 of 5\n```\nLR = 0.1"),
        ("read", {"path": "./train.py", "start": -9}, "lines 1 to 5 of 5"),
        ("search", {"text": "width"}, "other.py:1: WIDTH = 8"),
        ("search", {"text": "nowhere"}, "(nothing found)"),
        ("trials", {"which": "failed"}, "crash"),
        ("trials", {"which": "best", "count": 99999999}, "baseline"),
        ("trials", {"specialist": "nobody"}, "(none)"),
        ("show", {"trial": f"{2:040x}"}, "parents: 00000000"),
        ("diff", {"trial": f"{2:040x}"}, "(no difference)"),
        ("undo", {}, "the parent's again"),
    ],
)
def test_a_tool_answers(server: FakeServer, name: str, arguments: Any, words: str) -> None:
    """What is asked in an odd but plain way is answered."""
    study, request = talking(server, calls((name, arguments)), says(GOOD))
    OpenAIAgent(study).propose(request)
    assert words in results(server)[0]


def test_an_invalid_trial_is_on_no_desk(server: FakeServer) -> None:
    """It is in no list, not among children, and can't be named; the desk of a person who starts from it can."""
    _, request = talking(server)
    node = request.lineage[f"{2:040x}"]
    assert node.summary is not None
    struck = replace(node, summary=node.summary._replace(status="invalid", label="revoked"))
    request.lineage.put(struck)
    desk = Desk(request)

    assert desk.call("trials", '{"which": "failed"}') == "(none)"
    assert struck.trial.subject[:20] not in desk.call("trials", "{}")
    assert "children: none" in desk.call("show", json.dumps({"trial": f"{1:040x}"}))
    for tool, more in (("show", {}), ("diff", {}), ("files", {}), ("read", {"path": "train.py"})):
        assert desk.call(tool, json.dumps({"trial": struck.trial.oid, **more})).startswith("Refused: no trials begin")
    own = Desk(replace(request, parent=struck.trial))
    assert not own.call("show", json.dumps({"trial": struck.trial.oid})).startswith("Refused")


def test_words_of_trials_stay_quoted_in_what_tools_answer(server: FakeServer) -> None:
    """An injection in a hypothesis or a log reaches the model behind `> `, on one line, without controls."""
    study, request = talking(server, calls(("show", {"trial": f"{2:040x}"}), ("trials", {})), says(GOOD))
    OpenAIAgent(study).propose(request)
    lines = [line for told in results(server) for line in told.split("\n") if "Ignore all that" in line]
    assert lines
    assert all(line.lstrip().startswith("> ") for line in lines)
    assert all(is_safe(told) for told in results(server))
    assert EVIL not in "".join(results(server))


def test_what_a_tool_answers_is_bounded(server: FakeServer) -> None:
    """A file of any length, or a search that finds everything, costs a bounded answer that says what is left out."""
    study, request = talking(
        server,
        calls(("read", {"path": "long.py"}), ("search", {"text": "V"}), ("diff", {"other": f"{2:040x}"})),
        says(GOOD),
    )
    long = b"".join(b"V%d = %d  # %s\n" % (n, n, b"x" * 200) for n in range(5_000)) + b"```\n"
    OpenAIAgent(study).propose(replace(request, files={**FILES, "long.py": long}))
    assert all(len(told) <= ANSWER + 100 for told in results(server))
    assert "more" in results(server)[1]
    assert "not shown" in results(server)[2]


def test_many_calls_at_once_are_refused(server: FakeServer) -> None:
    """So many are done, each of the others is answered too: an unanswered call makes the next request invalid."""
    wanted = [("files", {})] * (CALLS_AT_ONCE + 3)
    study, request = talking(server, calls(*wanted), says(GOOD))
    OpenAIAgent(study).propose(request)
    assert len(results(server)) == CALLS_AT_ONCE + 3
    assert sum(told.startswith("Refused: too many") for told in results(server)) == 3


@pytest.mark.parametrize(
    "found",
    [
        [{"function": {"name": "files", "arguments": {}}}],
        [{"id": None, "function": {"name": "files", "arguments": None}}],
        [{"id": "a", "function": {"name": "files", "arguments": "{}"}}] * 2,
        [{"id": "x" * 500, "function": {"name": "files"}}],
        [{"id": "a"}, 3, None],
        [{"id": "a", "function": {"name": 3, "arguments": "{}"}}],
    ],
)
def test_calls_of_any_shape_can_be_sent_back(server: FakeServer, found: Any) -> None:
    """Missing, doubled and overlong ids, arguments as a table: each call has one id, and one answer under it."""
    study, request = talking(server, says(None, tool_calls=found), says(GOOD))
    OpenAIAgent(study).propose(request)
    sent = [call for m in server.asked[-1].messages for call in m.get("tool_calls", ())]
    answered = [message["tool_call_id"] for message in server.asked[-1].messages if message["role"] == "tool"]
    assert [call["id"] for call in sent] == answered  # type: ignore[index]
    assert len(set(answered)) == len(answered) == len(found)
    assert all(isinstance(call["function"]["arguments"], str) for call in sent)  # type: ignore[index]


@pytest.mark.parametrize("found", [[], {}, "files", None, 3])
def test_no_calls_in_any_shape_are_none(server: FakeServer, found: Any) -> None:
    """A field that holds no list of calls is passed over."""
    study, request = talking(server, says(GOOD, tool_calls=found))
    assert OpenAIAgent(study).propose(request).usage.calls == 1


def test_reasoning_goes_back_where_tools_were_called(server: FakeServer) -> None:
    """Servers of reasoning models want it back, as they sent it; where it isn't sent, none is."""
    study, request = talking(server, calls(("files", {}), reasoning_content="hm"), calls(("files", {})), says(GOOD))
    OpenAIAgent(study).propose(request)
    first, second = (m for m in server.asked[-1].messages if m.get("tool_calls"))
    assert first["reasoning_content"] == "hm"
    assert "reasoning_content" not in second


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "registry.ollama.ai/library/gemma:2b does not support tools"),
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        (500, "tools param requires --jinja flag"),
        (404, "No endpoints found that support tool use."),
        (422, "Extra inputs are not permitted: tools"),
        (400, "litellm.UnsupportedParamsError: m does not support parameters: ['tools']"),
    ],
)
def test_a_server_without_tools_is_asked_without(server: FakeServer, status: int, message: str) -> None:
    """In the words that servers use for it; from then on that model is asked for the answer alone."""
    refusals = [fails(status, message)] * (5 if status == 500 else 1)
    study, request = talking(server, *refusals, says(GOOD), says(GOOD))
    agent = OpenAIAgent(study)
    assert agent.propose(request).edits
    assert agent.propose(request).edits
    assert ["tools" in asked.body for asked in server.asked] == [*[True] * len(refusals), False, False]
    assert "tools list" not in server.asked[-1].messages[0]["content"]


def failure(server: FakeServer, *queue: Scripted, session: Session | None = None, **settings: Any) -> ProposalFailed:
    """How a talk ends that comes to nothing."""
    study, request = talking(server, *queue, **settings, **({"session": session} if session else {}))
    with pytest.raises(ProposalFailed) as caught:
        OpenAIAgent(study).propose(request)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("session", "asked", "words"),
    [
        (Session(turns=3), 3, "in 3 turns"),
        (Session(tokens=220), 2, "within the 220 tokens"),
        (Session(dollars=0.0005), 2, "within the 0.0005 dollars"),
        (Session(seconds=1e-9), 0, "within the 1e-09 s"),
    ],
)
def test_a_talk_is_bounded(server: FakeServer, session: Session, asked: int, words: str) -> None:
    """Turns, tokens, dollars and seconds each end it, with its cost and what was said."""
    error = failure(server, *[calls(("files", {}))] * 9, session=session)
    assert words in error.message
    assert len(server.asked) == error.usage.calls == asked
    assert error.fault == "answer"
    assert asked == 0 or "-> files" in error.transcript


def test_the_last_turns_are_announced(server: FakeServer) -> None:
    """A model that only looks is told in time how many turns are left."""
    failure(server, *[calls(("files", {}))] * 4, session=Session(turns=4))
    said = [m["content"] for m in server.asked[-1].messages if m["role"] == "user"][1:]
    assert said == ["3 turns are left.", "2 turns are left.", "Answer now, without calling a tool."]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "read", "arguments": {"path": "train.py"}}\n</tool_call>',
        "<function_calls><invoke name='read'></invoke></function_calls>",
        "[TOOL_CALLS] [{}]",
        "I will now read the file.",
        "",
    ],
)
def test_a_call_in_text_is_no_call(server: FakeServer, text: str) -> None:
    """Markup of another format is told to be none, twice, and ends as a failure on record; nothing of it is stored as
    a trial."""
    error = failure(server, *[says(text)] * (REPAIRS + 1))
    assert "text that looks like a call is none" in server.asked[1].messages[-1]["content"]
    assert error.usage.calls == REPAIRS + 1


def test_good_use_of_a_tool_starts_the_count_of_repairs_anew(server: FakeServer) -> None:
    """A long talk may stumble now and then; only mistakes in a row end it."""
    stumble = [says("hm"), says("hm"), calls(("files", {}))]
    study, request = talking(server, *stumble, *stumble, says(GOOD))
    assert OpenAIAgent(study).propose(request).usage.repairs == 4


def test_a_talk_that_outgrows_the_context_forgets_the_oldest_answers(server: FakeServer) -> None:
    """Every request fits the context that the study names; what was left out says so."""
    long = {**FILES, "long.py": b"".join(b"value_%d = other\n" % n for n in range(2_000))}
    wanted = [calls(("read", {"path": "long.py", "start": 300 * n + 1})) for n in range(5)]
    study, request = talking(server, *wanted, says(GOOD), context_tokens=14_000, max_tokens=1_000, brief_tokens=600)
    OpenAIAgent(study).propose(replace(request, files=long))
    told = results(server)
    assert told[0] == LEFT_OUT
    assert "value_1200" in told[-1]
    assert told.count(LEFT_OUT) < 5


def test_an_outage_and_a_wrong_key_are_told_apart(server: FakeServer) -> None:
    """The loop waits for the one and stops at the other; what was paid so far is told in both."""
    error = failure(server, calls(("files", {})), *[fails(503)] * 5)
    assert (error.fault, error.usage.calls) == ("outage", 1)
    server.asked.clear()
    error = failure(server, calls(("files", {})), fails(401))
    assert (error.fault, error.usage.calls) == ("setup", 1)


def test_the_control_arm_has_no_trials_to_list(server: FakeServer) -> None:
    """Without lineage the list of trials is no tool."""
    study, request = talking(server, calls(("trials", {})), says(GOOD), lineage=False)
    OpenAIAgent(study).propose(request)
    assert "trials" not in [tool["function"]["name"] for tool in server.asked[0].body["tools"]]
    assert results(server)[0].startswith("Refused: there is no tool 'trials'")


def test_the_lineage_is_looked_at_under_its_lock(server: FakeServer) -> None:
    """Another slot may be adding to it; the evaluator's preflight, which takes long, does not hold the lock."""
    lock = threading.RLock()
    held: list[bool] = []

    def taken() -> bool:
        found: list[bool] = []

        def look() -> None:  # a lock that a thread took to its end would stay taken
            found.append(not lock.acquire(blocking=False))
            if not found[0]:
                lock.release()

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return found[0]

    def files_of(_oid: str) -> dict[str, bytes]:
        held.append(taken())
        return FILES

    def check(_files: object) -> str:
        held.append(taken())
        return ""

    read = ("read", {"path": "train.py", "trial": f"{2:040x}"})
    study, request = talking(server, calls(read, ("check", {}), text=BLOCK), says(TITLE))
    OpenAIAgent(study).propose(replace(request, lock=lock, files_of=files_of, check=check))
    assert held == [True, False, False]


def test_a_missing_key_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making the agent is enough to learn of it."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError, match="holds no key"):
        OpenAIAgent(load(STUDY.replace("URL", "")))
