"""The verbs that do the work: run, evaluate; and what others need to begin it."""

import os
import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType
from typing import TypeVar

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
from gitresearch.loop import Loop, Plan, Report, Stop
from gitresearch.propose import Proposer
from gitresearch.spending import tally
from gitresearch.study import Study
from gitresearch.text import plural

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
        if lab.lineage[trial.oid].status == "pending" and (twin := lab.lineage.twin(trial)):
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
