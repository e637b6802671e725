"""propose: one trial, by an agent or by a person."""

from contextlib import closing
from dataclasses import replace
from typing import BinaryIO

import click

from gitresearch import folders
from gitresearch.agents import Agent
from gitresearch.briefing import Briefing
from gitresearch.cli.context import open_study, say, with_agent
from gitresearch.cli.look import found
from gitresearch.cli.work import agent_options, make_agent
from gitresearch.errors import GitResearchError
from gitresearch.evaluate import Evaluator
from gitresearch.lineage import Node
from gitresearch.policy import Turn, next_turn
from gitresearch.propose import Nobody, Proposer
from gitresearch.sandbox import Sandbox
from gitresearch.study import Specialist
from gitresearch.surface import Surface
from gitresearch.trial import OPERATORS, Trial


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
