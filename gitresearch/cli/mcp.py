"""The verb that serves a study's tools to an agent over the Model Context Protocol."""

from contextlib import closing
from dataclasses import replace

import click

from gitresearch import folders
from gitresearch.briefing import Briefing
from gitresearch.cli.context import open_study, without_lineage
from gitresearch.evaluate import Evaluator
from gitresearch.lineage import Lineage, Node
from gitresearch.sandbox import Sandbox
from gitresearch.serve import Service, serve


@click.command(short_help="Serve the study's tools to an agent over MCP.")
@click.option("--no-lineage", is_flag=True, help="The control arm: the agent sees nothing of other trials.")
def mcp(no_lineage: bool) -> None:
    """Serve the study's tools to an agent over the Model Context Protocol, on stdin and stdout.

    The agent reads briefs, looks at trials, edits a copy and submits it as a trial; `gitresearch run` or `evaluate`,
    beside it, measures what it submits. With Claude Code: claude mcp add gitresearch -- gitresearch mcp

    Needs the package's extra: pip install 'gitresearch[mcp]'
    """
    opened = open_study(begin=True)
    study = opened.study.enrolled()
    study = without_lineage(study) if no_lineage else study
    study = replace(study, agent=replace(study.agent, kind="mcp", model=""))
    opened.repo.clear_stale_locks()

    def read() -> Lineage:
        lineage = opened.lineage()
        if not len(lineage):
            lineage.put(Node(opened.repo.make_baseline(study.name, opened.base)))
        return lineage

    with closing(Evaluator(opened.repo, study, opened.base, Sandbox("none", ""), folders.cache())) as evaluator:
        serve(Service(Briefing(opened.repo, study, opened.base), read, evaluator.foresee))
