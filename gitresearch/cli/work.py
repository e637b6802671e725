"""The verbs that do the work: run, propose, evaluate."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from queue import SimpleQueue
from types import FrameType
from typing import BinaryIO, TypeVar

import click

from gitresearch import folders, machine, sandbox
from gitresearch.agents import Agent, Usage
from gitresearch.briefing import Briefing
from gitresearch.cli import render
from gitresearch.cli.context import (
    Opened,
    changed_since,
    open_study,
    prices_file,
    require_known,
    say,
    warn_unlisted,
    with_agent,
)
from gitresearch.cli.progress import Progress, choose_progress
from gitresearch.errors import GitResearchError
from gitresearch.evaluate import Evaluator
from gitresearch.lab import Lab
from gitresearch.lineage import Node
from gitresearch.loop import Loop, Plan, Report, Stop
from gitresearch.policy import Turn, next_turn
from gitresearch.propose import Nobody, Proposer
from gitresearch.sandbox import Sandbox
from gitresearch.spending import tally
from gitresearch.study import Specialist, Study
from gitresearch.surface import Surface
from gitresearch.text import plural
from gitresearch.trial import OPERATORS, Trial

Result = TypeVar("Result")


def agent_options(command: Callable[..., None]) -> Callable[..., None]:
    """--agent, --model, --base-url, --command, --no-lineage, --roster: who proposes, other than the study says."""
    command = click.option(
        "--roster", metavar="ROSTER", help="Who proposes: specialists, generalist, generics or generics:N."
    )(command)
    command = click.option("--no-lineage", is_flag=True, help="The control arm: agents see nothing of other trials.")(
        command
    )
    command = click.option(
        "--command", "program", metavar="PROGRAM", help="A coding agent by name (codex, claude, …) or command line."
    )(command)
    command = click.option("--base-url", metavar="URL", help="An OpenAI-compatible server.")(command)
    command = click.option("--model", metavar="NAME", help="The model that is asked.")(command)
    return click.option("--agent", type=click.Choice(["offline", "openai", "command"]), help="Who proposes.")(command)


def work_options(command: Callable[..., None]) -> Callable[..., None]:
    """--jobs, --allow-unsandboxed, --plain."""
    command = click.option("--plain", is_flag=True, help="Plain lines instead of a live display.")(command)
    command = click.option(
        "--allow-unsandboxed", is_flag=True, help="Run trials with limits only where no sandbox works."
    )(command)
    return click.option(
        "-j",
        "--jobs",
        type=click.IntRange(1, 256),
        metavar="N",
        help="Trials at once. [default: cores; 1 on a wall clock]",
    )(command)


def make_agent(study: Study, *, ahead: bool = False) -> Agent:
    """The agent of the study's kind; its module is imported here, since each brings a heavy library. Where it won't be
    asked for hours, what speaks against its server is said `ahead`."""
    if study.agent.kind == "openai":
        from gitresearch.agents.openai import OpenAIAgent  # noqa: PLC0415

        asked = OpenAIAgent(study)
        for doubt in asked.doubts() if ahead else ():
            say(doubt)
        return asked
    if study.agent.kind == "command":
        from gitresearch.agents.command import CommandAgent  # noqa: PLC0415

        if folders.keys().is_dir() and not sandbox.hiding(folders.keys()):
            say(f"the agent's program can read the evaluators' keys in {folders.keys()}: apt install bubblewrap")
        return CommandAgent(study, folders.cache() / "work")
    from gitresearch.agents.offline import OfflineAgent  # noqa: PLC0415

    return OfflineAgent()


def default_jobs(study: Study) -> int:
    """One trial a core where CPU seconds count; one at a time where the accelerator is timed by the wall clock."""
    if study.budget.clock == "wall":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_lab(opened: Opened, progress: Progress, allow_unsandboxed: bool) -> Lab:
    """The study ready to run: locks of dead processes cleared, sandbox chosen, data and hook in place."""
    require_known(opened.repo, opened.study.name, opened.base)
    for lock in opened.repo.clear_stale_locks():
        say(f"removed {lock}, left by a process that is dead")
    box = sandbox.choose(allow_unsandboxed, folders.cache())
    warn_unlisted(opened)
    if box.level == "none":
        say("no sandbox: trials run with limits only, as you allowed, and every outcome says so")
    evaluator = Evaluator(opened.repo, opened.study, opened.base, box, folders.cache(), progress.phase)
    click.get_current_context().call_on_close(evaluator.close)
    evaluator.prepare()
    sandbox.require_accelerators(box, folders.cache(), evaluator.python)
    for doubt in machine.doubts(opened.study.budget, evaluator.python):
        say(doubt)
    return Lab(opened.repo, opened.study, opened.base, evaluator)


@click.command(short_help="Propose and evaluate until a budget ends.")
@click.option("--trials", type=click.IntRange(min=0), metavar="N", help="Propose N trials, then stop.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), metavar="H", help="Stop proposing after H hours.")
@click.option(
    "--dollars",
    type=click.FloatRange(min=0, min_open=True),
    metavar="D",
    help="Stop proposing after D dollars of model calls.",
)
@click.option("--tokens", type=click.IntRange(min=1), metavar="N", help="Stop proposing after N tokens, in and out.")
@agent_options
@work_options
def run(
    trials: int | None, hours: float | None, dollars: float | None, tokens: int | None, agent: str | None,
    model: str | None, base_url: str | None, program: str | None, no_lineage: bool, roster: str | None,
    jobs: int | None, allow_unsandboxed: bool, plain: bool,
) -> None:  # fmt: skip
    """Propose and evaluate until a budget ends.

    Calibrates the baseline first, evaluates what is waiting, then proposes. ^C once finishes what runs; twice stops
    now. Start it again after any interruption: it goes on from git alone. Without --trials the limits are those of
    [study_budget] in study.toml, which count what the whole study spent; those given here count from now.
    """
    opened = open_study(begin=True)
    if changed_since(opened):
        say("study.toml has changed since the study began, which keeps to its base commit; rename it to begin another")
    study = with_agent(opened.study, agent, model, base_url, program, no_lineage, roster)
    limits = study.study_budget
    plan = Plan(
        trials=trials,
        total=0 if trials is not None else limits.trials,
        hours=limits.hours if hours is None else hours,
        dollars=limits.dollars if dollars is None else dollars,
        tokens=limits.tokens if tokens is None else tokens,
        before=spent_before(opened, dollars is None and limits.dollars > 0, tokens is None and limits.tokens > 0),
        stall_trials=limits.stall_trials,
        jobs=jobs or default_jobs(study),
    )
    require_prices(study, plan)
    asked = make_agent(study, ahead=True)  # first: a missing key or program is said before anything runs
    progress = choose_progress(study, plain=plain)
    lab = open_lab(Opened(opened.repo, study, opened.base), progress, allow_unsandboxed)
    briefing = Briefing(opened.repo, study, opened.base)
    proposer = Proposer(briefing, asked, lab.runs.foresee, lab.lock)
    report = attended(Loop(lab, proposer, plan, stop := Stop(), progress).run, lab, stop, progress)
    finish(lab, report)


def spent_before(opened: Opened, dollars: bool, tokens: bool) -> Usage:
    """What the study spent so far, as far as a cap of its own counts it."""
    if not (dollars or tokens):
        return Usage()
    spent = tally(opened.repo.proposals(), opened.study.name).total.usage
    return Usage(tokens_in=spent.tokens if tokens else 0, dollars=spent.dollars if dollars else 0.0)


def require_prices(study: Study, plan: Plan) -> None:
    """A cap in dollars can only hold where the price of every model that is asked is known."""
    if not plan.dollars or study.agent.kind == "offline":
        return
    models = {specialist.model or study.agent.model for specialist in study.specialists}
    unknown = sorted(model for model in models if study.price(model) is None)
    if unknown and study.agent.kind == "openai":
        why = f"a cap in dollars needs the price of {unknown[0]}"
        raise GitResearchError(why, f"add a [[prices]] table to {prices_file()}, or cap --tokens")
    if unknown:
        say("a cap in dollars counts what the agent says it spent: no [[prices]] table tells what its model costs")


def attended(work: Callable[[], Result], lab: Lab, stop: Stop, progress: Progress) -> Result:
    """Work with ^C meaning: once finish what runs, twice stop now.

    The handler only leaves word for a thread: in a handler, a lock that the interrupted code holds would never come
    free, and stderr can't be written in the middle of a write.
    """
    asked: SimpleQueue[bool] = SimpleQueue()

    def listen() -> None:
        while asked.get():
            stop.ask()
            once = "stopping: waiting for what runs; ^C again stops it now"
            progress.said(once if stop.asked == 1 else "stopping now")

    def handle(_number: int, _frame: FrameType | None) -> None:
        asked.put(True)

    listener = threading.Thread(target=listen, name="stop", daemon=True)
    listener.start()
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with progress.watching(lab):
            return work()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        asked.put(False)
        listener.join()


def finish(lab: Lab, report: Report) -> None:
    """The last words: why it ended, what it came to, where to look."""
    lab.repo.pack_if_needed()
    failed = f" and {plural(report.unproposed, 'turn')} without an edit" if report.unproposed else ""
    spent = report.usage
    cost = f", {spent.tokens:,} tokens, {spent.dollars:.2f} dollars" if spent.tokens or spent.dollars else ""
    made = f"{report.proposed} proposed{failed}, {plural(report.evaluated, 'outcome')} recorded"
    say(f"{report.why or 'nothing left to do'}: {made} in {report.seconds / 60:.1f} min{cost}")
    best, head = lab.lineage.best, lab.lineage.head
    for name, node in (("best", best), ("head", head)):
        if node is not None and (name == "best" or node is not best):
            say(f"{name}: {render.line(lab.lineage, node)}")
    say("next: gitresearch log, gitresearch show best, gitresearch status")
    if report.broken:
        raise report.broken
    if report.why == "stopped":
        raise KeyboardInterrupt


@click.command(short_help="Make one trial, without evaluating it.")
@click.argument("specialist", required=False)
@click.option("--parent", metavar="TRIAL", help="Start from this trial instead of the head.")
@click.option("--operator", type=click.Choice(OPERATORS[1:]), help="What kind of step.")
@click.option("--with", "with_", metavar="TRIAL", help="Combine the parent with this trial, as a merge of both.")
@click.option("--without", metavar="TRIAL", help="Take this step of the parent's chain out again (ablate).")
@click.option("--patch", type=click.File("rb"), metavar="FILE", help="Your own change, as a patch; - is stdin.")
@click.option("--from-worktree", is_flag=True, help="Your own change, as it stands in the checkout.")
@click.option("-m", "--message", metavar="TEXT", help="Your hypothesis: a line, and more below it.")
@click.option("--expect", type=float, metavar="NUMBER", help="The change of the metric you expect.")
@agent_options
def propose(
    specialist: str | None, parent: str | None, operator: str | None, with_: str | None, without: str | None,
    patch: BinaryIO | None, from_worktree: bool, message: str | None, expect: float | None, agent: str | None,
    model: str | None, base_url: str | None, program: str | None, no_lineage: bool, roster: str | None,
) -> None:  # fmt: skip
    """Make one trial by SPECIALIST (or whose turn it is), without evaluating it.

    With --patch or --from-worktree the change is your own: it goes to the specialist whose surface it lies in, and
    starts from the head unless --parent names the trial it was made on. The checkout is left as it is.

    `--operator combine --with TRIAL` and `--operator ablate --without TRIAL` ask an agent only where the merge
    conflicts; `--operator replicate` makes the parent's own files a trial again, to be measured once more.
    """
    from gitresearch.cli.look import found  # noqa: PLC0415  (look is not needed by run)

    own = patch is not None or from_worktree
    if own and (patch is not None) == from_worktree:
        raise click.UsageError("give --patch or --from-worktree, not both")
    if own and (agent or model or base_url or program):
        raise click.UsageError("--patch and --from-worktree take no agent")
    if not own and (message is not None or expect is not None):
        raise click.UsageError("--message and --expect go with --patch or --from-worktree")
    require_operator(operator, with_, without, own=own)
    opened = open_study(begin=True)
    study = with_agent(opened.study, agent, model, base_url, program, no_lineage, roster)
    if own:
        study = replace(study, agent=replace(study.agent, kind="patch", model=""))
    opened.repo.clear_stale_locks()
    lineage = opened.lineage()
    if not len(lineage):
        lineage.put(Node(opened.repo.make_baseline(study.name, opened.base)))
    start = found(opened, parent) if parent else (lineage.head or next(iter(lineage))).trial
    other = found(opened, with_ or without or "") if with_ or without else None
    seed = study.agent.seed + len(lineage)
    kind = operator or ("draft" if start.operator == "baseline" else "improve")
    briefing = Briefing(opened.repo, study, opened.base)
    proposing: Agent = Nobody()
    if own:
        offered = patch.read() if patch is not None else None
        proposing, who = own_change(briefing, start, specialist, offered, message, expect)
    else:
        turn = next_turn(study, lineage, {}, set(), seed)
        who = study.specialist(specialist) if specialist else turn.specialist if turn else study.specialists[0]
    with closing(Evaluator(opened.repo, study, opened.base, Sandbox("none", ""), folders.cache())) as evaluator:
        proposer = Proposer(briefing, proposing, evaluator.foresee)
        request = proposer.request(lineage, Turn(who, kind, start, seed, other, "a person's choice"))
        if request.asks and not own:
            proposer.agent = make_agent(study)
        trial, _ = proposer.answer(lineage, request)
    say(f"proposed {trial.branch}: {trial.subject}")
    click.echo(trial.oid)


def require_operator(operator: str | None, with_: str | None, without: str | None, *, own: bool) -> None:
    """Usage errors for an operator that lacks its second trial, or a second trial without its operator."""
    if with_ is not None and operator != "combine":
        raise click.UsageError("--with goes with --operator combine")
    if without is not None and operator != "ablate":
        raise click.UsageError("--without goes with --operator ablate")
    if own and (operator in ("combine", "replicate") or without is not None):
        raise click.UsageError(f"--operator {operator} takes no change of your own")
    if operator == "combine" and with_ is None:
        raise click.UsageError("--operator combine needs --with TRIAL")
    if operator == "ablate" and without is None and not own:
        raise click.UsageError("--operator ablate needs --without TRIAL, the step to take out")


def own_change(
    briefing: Briefing, start: Trial, name: str | None, patch: bytes | None, message: str | None, expected: float | None
) -> tuple[Agent, Specialist]:
    """A person's change as an agent, and the specialist whose surface it lies in."""
    from gitresearch.agents.patch import PatchAgent, edits_of, message_of, worktree  # noqa: PLC0415

    repo, study = briefing.repo, briefing.study
    more: dict[str, bytes] = {}
    if patch is None:
        if repo.workdir is None:
            raise GitResearchError("a bare repository has no checkout", "gitresearch propose --patch FILE")
        patch, more = worktree(repo.git_dir, repo.workdir, study.recipe.folder)
    files = briefing.files_of(start.oid)
    edits = edits_of(files, patch, more)
    if not edits:
        raise GitResearchError(f"the change leaves the files of {start.short} as they are", "git status")
    words = message if message is not None else message_of(patch)
    if not words.strip():
        raise GitResearchError("the change has no hypothesis", "gitresearch propose … -m 'what you expect, and why'")
    named = [study.specialist(name)] if name else list(study.specialists)
    outside = {who: Surface.of(who.surface).violations(files, edits) for who in named}
    who = min(named, key=lambda who: len(outside[who]))
    if outside[who]:
        whose = f"of {who.name}" if name else "of any specialist"
        why = f"the change is outside the surface {whose}: {'; '.join(outside[who][:3])}"
        anybody = Surface.of(study.surface)
        if not name and not anybody.violations(files, edits):
            hint = "gitresearch propose --roster generalist, who may edit what anybody may"
            raise GitResearchError("the change lies in the surfaces of several specialists", hint)
        raise GitResearchError(why, f"gitresearch brief {who.name}, which says what it may edit")
    return PatchAgent(edits, words, expected), who


@click.command(short_help="Evaluate trials that have no outcome yet.")
@click.argument("trials", nargs=-1, metavar="[TRIAL]...")
@work_options
def evaluate(trials: tuple[str, ...], jobs: int | None, allow_unsandboxed: bool, plain: bool) -> None:
    """Evaluate the given trials, or all that have no outcome yet. An evaluated trial is not evaluated twice."""
    from gitresearch.cli.look import found  # noqa: PLC0415

    opened = open_study(begin=True)
    progress = choose_progress(opened.study, plain=plain)
    wanted = [found(opened, text) for text in trials]
    lab = open_lab(opened, progress, allow_unsandboxed)
    for trial in wanted:
        lab.reopen(trial)
        if twin := lab.lineage.twin(trial):
            hint = f"gitresearch propose --operator replicate --parent {twin.trial.short}"
            raise GitResearchError(
                f"{trial.short} has the same files as {twin.trial.short}, which has an outcome", hint
            )
    plan = Plan(jobs=jobs or default_jobs(opened.study), only=frozenset(trial.oid for trial in wanted))
    report = attended(Loop(lab, None, plan, stop := Stop(), progress).run, lab, stop, progress)
    for trial in wanted:
        node = lab.lineage[trial.oid]
        click.echo(f"{trial.short}  {node.status}  {'' if node.score is None else format(node.score, '.6g')}".rstrip())
    finish(lab, report)
