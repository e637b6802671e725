"""The verbs that only look: log, show, best, status, diff, brief. Each has `--json` where a person would pipe it."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import click
import tomli

from gitresearch import drift, holdout, witness
from gitresearch.cli import render
from gitresearch.cli.context import Opened, changed_since, open_study, say, without_lineage
from gitresearch.decision import FRESH, first_claim_sees, values
from gitresearch.errors import GitResearchError
from gitresearch.lineage import Lineage, Node
from gitresearch.noise import Spread, pooled
from gitresearch.outcome import Outcome, signed
from gitresearch.repo import Repo
from gitresearch.spending import usage_of
from gitresearch.study import Study
from gitresearch.text import printable
from gitresearch.trial import Trial

as_json = click.option("--json", "json_", is_flag=True, help="Print JSON.")


def emit(data: Any) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


@click.command(short_help="List trials, newest first.")
@click.option("-n", "count", type=click.IntRange(min=1), metavar="N", help="At most N trials.")
@click.option("--status", "statuses", multiple=True, metavar="STATUS", help="Only these statuses.")
@click.option("--specialist", metavar="NAME", help="Only this specialist's.")
@click.option("--best-first", is_flag=True, help="Order by score instead of time.")
@as_json
def log(count: int | None, statuses: tuple[str, ...], specialist: str | None, best_first: bool, json_: bool) -> None:
    """List trials, newest first.

    The same story in plain git: git log --graph --notes='gitresearch/*' --branches='trial/*'
    """
    opened = open_study()
    if count and not (statuses or specialist or best_first):
        latest = opened.repo.latest(opened.study.name, count)
        lineage = opened.lineage(opened.repo.with_parents(latest))
        wanted = [lineage[record.trial.oid] for record in latest]
    else:
        lineage = opened.lineage()
        if specialist and not lineage.recent(1, specialist):
            opened.study.enrolled().specialist(specialist)  # another roster's had trials
        nodes = lineage.leaderboard(len(lineage)) if best_first else lineage.recent(len(lineage))
        wanted = [
            n for n in nodes if (not statuses or n.status in statuses) and specialist in (None, n.trial.specialist)
        ]
        wanted = wanted[:count]
    if json_:
        return emit([render.as_json(lineage, node) for node in wanted])
    if not wanted:
        return say("no such trials" if statuses or specialist else "no trials yet; try: gitresearch run")
    click.echo(render.header(opened.study.objective.metric))
    for node in wanted:
        click.echo(render.line(lineage, node))
    return None


def found(opened: Opened, text: str) -> Trial:
    """The trial meant by an oid prefix, a branch name, `best` or `head`."""
    if text in ("best", "head"):
        lineage = opened.kept()
        node = lineage.best if text == "best" else lineage.head
        if node is None:
            raise GitResearchError(f"there is no {text} yet", "gitresearch run")
        return node.trial
    return opened.repo.find(text, opened.study.name)


@click.command(short_help="Show one trial: hypothesis, outcome, runs, change.")
@click.argument("trial", metavar="TRIAL")
@click.option("--no-diff", is_flag=True, help="Leave the change out.")
@as_json
def show(trial: str, no_diff: bool, json_: bool) -> None:
    """Show one trial: hypothesis, outcome, runs, change. TRIAL is an oid prefix, a branch, `best` or `head`."""
    opened = open_study()
    this = found(opened, trial)
    lineage = opened.lineage()
    node = lineage[this.oid]
    outcome = opened.repo.outcome(this.oid) if node.summary else None
    said = opened.repo.outcomes(this.oid)
    change = "" if no_diff else change_of(opened.repo, this)
    if json_:
        return emit(
            render.as_json(lineage, node)
            | {"body": this.hypothesis.body, "proposal": proposal_of(opened.repo, this)}
            | details(outcome)
            | {"witnesses": witnesses(said), "diff": change}
        )
    head = [click.style(f"trial {this.oid}", fg="yellow"), f"Branch:     {this.branch}"]
    parents = ", ".join(parent[:8] for parent in this.parents)
    children = ", ".join(child.trial.short for child in lineage.children(this.oid)) or "none"
    how = proposal_of(opened.repo, this)
    head += [f"Parents:    {parents}", f"Children:   {children}", f"Specialist: {this.specialist} ({this.operator})"]
    if this.hypothesis.expected is not None:
        head.append(f"Expected:   {signed(this.hypothesis.expected)}")
    if how:
        head.append(f"Proposed:   {made_by(how)}")
    click.echo("\n".join(head) + f"\n\n{render.story(this)}\n")
    click.echo(told(node, outcome))
    if outcome and (words := holdout.told(outcome)):
        click.echo(printable(words))
    for word in witnesses(said):
        what = "measured again by" if word["evaluator"] == word.get("of") else "witness"
        click.echo(printable(f"{what} {word['evaluator']}: {witness.told(word)}"))
    if change:
        click.echo("\n" + printable_lines(change))
    return None


def proposal_of(repo: Repo, trial: Trial) -> dict[str, Any]:
    """How the trial came about, out of its note; empty where there is none that can be read."""
    try:
        return tomli.loads((repo.proposal(trial.oid) or b"").decode("utf-8"))
    except (ValueError, RecursionError):
        return {}


def made_by(how: Mapping[str, Any]) -> str:
    """Agent, model and cost of a proposal in a line."""
    parts = [printable(str(how.get(name, ""))) for name in ("agent", "model")]
    with suppress(KeyError, TypeError):
        usage = usage_of(how)
        parts += [f"{usage.tokens:,} tokens", f"{usage.dollars:.4f} dollars"] if usage.tokens else []
        parts += [f"{usage.seconds:.1f} s"] if usage.seconds else []
    return ", ".join(part for part in parts if part)


def told(node: Node, outcome: Outcome | None) -> str:
    """An outcome for people: the headline, why, the runs, the arithmetic."""
    if outcome is None:
        return f"{render.tint(node.status, node.status)}  {printable(node.broken)}".rstrip()
    parts = [render.tint(node.status, printable(outcome.headline))]
    if outcome.failure:
        parts.append(render.quoted("\n".join(outcome.failure.lines)))
    metrics = sorted({name for run in outcome.runs for name in run.metrics})
    beside, warm, tried, spared, counted, relative = (
        any(getattr(run, name) for run in outcome.runs)
        for name in ("of", "warmup_seconds", "smoke_seconds", "saved_seconds", "parameters", "baseline_seconds")
    )
    rows = [
        {"purpose": run.purpose}
        | ({"of": run.of[:8]} if beside else {})
        | {"seed": run.seed, "status": run.status}
        | {name: run.metrics.get(name, "") for name in metrics}
        | ({"smoke s": run.smoke_seconds} if tried else {})
        | ({"warm-up s": run.warmup_seconds} if warm else {})
        | ({"baseline s": run.baseline_seconds} if relative else {})
        | {"train s": run.train_seconds, "eval s": run.eval_seconds, "wall s": run.wall_seconds}
        | {"MB": round(run.peak_memory_bytes / 1e6), "artefact": run.artefact_bytes}
        | ({"parameters": run.parameters} if counted else {})
        | ({"saved s": run.saved_seconds, "by": run.saved_by} if spared else {})
        for run in outcome.runs
    ]
    parts.append(render.table(rows))
    for name in ("decision", "environment", "binding"):
        if facts := getattr(outcome, name):
            parts.append(f"{name}: " + ", ".join(f"{key} {render.cell(value)}" for key, value in facts.items()))
    return "\n".join(part for part in parts if part)


def details(outcome: Outcome | None) -> dict[str, Any]:
    if outcome is None:
        return {}
    return {
        "runs": [{key: getattr(run, key) for key in run.__dataclass_fields__} for run in outcome.runs],
        "failure": outcome.failure and {"phase": outcome.failure.phase, "lines": list(outcome.failure.lines)},
        "decision": dict(outcome.decision),
        "environment": dict(outcome.environment),
        "binding": dict(outcome.binding),
    }


def witnesses(said: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    """What evaluators found that measured the trial again."""
    facts = {who: witness.facts_of(outcome) for who, outcome in said.items()}
    return [{"evaluator": who} | told for who, told in facts.items() if "verdict" in told]


def change_of(repo: Repo, trial: Trial) -> str:
    return repo.diff(trial.parents[0], trial.oid) if trial.parents else ""


def printable_lines(text: str) -> str:
    """A diff in colour, with anything that would drive the terminal written out."""
    colours = {"+": "green", "-": "red", "@": "cyan"}
    rows = []
    for row in text.rstrip("\n").split("\n"):
        plain = printable(row)
        colour = None if row.startswith(("+++", "---")) else colours.get(row[:1])
        rows.append(click.style(plain, fg=colour) if colour else plain)
    return "\n".join(rows)


@click.command(short_help="Show the best confirmed trial and the head.")
@as_json
def best(json_: bool) -> None:
    """Show the best confirmed trial and the head.

    `best` is confirmed on fresh seeds; the head is what the next trial has to beat, and may still be luck.
    """
    opened = open_study()
    lineage = opened.kept()
    if lineage.best is None or lineage.head is None:
        raise GitResearchError("the baseline has no score yet", "gitresearch run")
    if json_:
        data = {"best": render.as_json(lineage, lineage.best), "head": render.as_json(lineage, lineage.head)}
        return emit(data | {"holdout": on_holdout(opened.repo, lineage)})
    click.echo(render.header(opened.study.objective.metric))
    click.echo(render.line(lineage, lineage.best) + "  (best)")
    for word in witnesses(opened.repo.outcomes(lineage.best.trial.oid)):
        if word["verdict"] == "differs":
            say(f"measured again by {word['evaluator']}, it {witness.told(word)}")
    if lineage.head.trial.oid != lineage.best.trial.oid:
        click.echo(render.line(lineage, lineage.head) + "  (head, provisional)")
    for text in standing(opened, lineage):
        click.echo(text)
    return None


def standing(opened: Opened, lineage: Lineage) -> list[str]:
    """How far best and head are from the baseline, in the metric, per cent and standard deviations of the noise."""
    base = next(iter(lineage.baselines()), None)
    calibration = opened.repo.outcome(base.trial.oid) if base else None
    if base is None or base.score is None or calibration is None:
        return []
    metric = opened.study.objective.metric
    noise, seeds = noise_of(opened.repo, lineage, calibration), opened.study.seeds.confirm
    seen = first_claim_sees(opened.study, noise, seeds, len(values(calibration, "baseline")))
    out = [
        f"baseline {metric} {base.score:.5g}, noise σ {noise.sd:.2g} ({noise.df} degrees of freedom); "
        f"a confirmation with {seeds} seeds sees {seen:.2g} with power 0.8"
    ]
    out += [moved] if (moved := drift.told(calibration)) else []
    found = opened.repo.outcome(lineage.best.trial.oid) if lineage.best else None
    out += [printable(words)] if found and (words := holdout.told(found)) else []
    head = lineage.head
    for name, node in (("best", lineage.best), ("head", None if head is lineage.best else head)):
        if node is None or node.score is None or node.status == "baseline":
            continue
        change = node.score - base.score
        sigmas = f", {abs(change) / noise.sd:.1f} σ" if noise.sd else ""
        sure = "confirmed" if node.summary and node.summary.confirmed else "provisional"
        out.append(f"{name} {signed(change)} ({change / base.score:+.1%}{sigmas}) against the baseline, {sure}")
    return [*out, *in_turn(opened.study, found)]


def in_turn(study: Study, best: Outcome | None) -> list[str]:
    """What the claim of the best saw in turn with its rival, where it was made so: the scores of both may be of other
    hours."""
    facts = best.decision if best else {}
    gain, rival = facts.get("claim_gain"), facts.get("claim_rival")
    if "claim_beside" not in facts or not (isinstance(gain, float) and isinstance(rival, float) and rival):
        return []
    change = -gain if study.objective.direction == "min" else gain
    of = printable(str(facts["claim_beside"])[:8])
    return [f"best {signed(change)} ({change / rival:+.1%}) against {of}, in turn with it"]


def on_holdout(repo: Repo, lineage: Lineage) -> dict[str, Any]:
    """What is known of the best trial on the holdout."""
    found = repo.outcome(lineage.best.trial.oid) if lineage.best else None
    return holdout.facts_of(found) if found else {}


def noise_of(repo: Repo, lineage: Lineage, calibration: Outcome) -> Spread:
    """The spread of the metric over seeds, from the baseline and every keep."""
    return pooled([values(calibration, "baseline"), *_fresh_groups(repo, lineage)])


def _fresh_groups(repo: Repo, lineage: Lineage) -> Iterable[list[float]]:
    for node in lineage:
        if node.status == "keep" and (outcome := repo.outcome(node.trial.oid)):
            yield values(outcome, *FRESH)


@click.command(short_help="Show where the study stands.")
@as_json
def status(json_: bool) -> None:
    """Show where the study stands: trials by status, head and best, noise, what is running and what waits."""
    opened = open_study()
    lineage = opened.lineage()
    study = opened.study
    running = [claim for claim in opened.repo.claims(study.name) if claim.live]
    counts = lineage.statuses()
    seconds = sum(node.summary.seconds for node in lineage if node.summary)
    if json_:
        data = {"study": study.name, "base": opened.base, "trials": len(lineage), "statuses": counts}
        data |= {"running": [claim.trial for claim in running], "pending": [n.trial.oid for n in lineage.pending()]}
        data |= {"seconds": round(seconds, 3), "best": lineage.best and render.as_json(lineage, lineage.best)}
        data |= {"holdout": on_holdout(opened.repo, lineage)}
        return emit(data | {"head": lineage.head and render.as_json(lineage, lineage.head)})
    click.echo(f"study {click.style(study.name, bold=True)}: {study.question or study.objective.metric}")
    if not opened.base:
        return say("the study has not begun; try: gitresearch run")
    if changed_since(opened):
        say("study.toml has changed since the study began, which keeps to its base commit; rename it to begin another")
    click.echo(f"base {opened.base[:8]}, {len(lineage)} trials, {seconds / 3600:.2f} hours of evaluation")
    click.echo("  ".join(render.tint(name, f"{name} {count}") for name, count in counts.most_common()))
    for claim in running:
        click.echo(f"running {claim.trial[:8]} by {printable(f'{claim.owner.host}, process {claim.owner.pid}')}")
    for text in standing(opened, lineage):
        click.echo(text)
    rows = [
        {"specialist": name, "trials": f.trials, "keeps": f.statuses["keep"], "gain": f.gain, "hours": f.seconds / 3600}
        for name, f in sorted(lineage.figures().items())
    ]
    if rows:
        click.echo(render.table(rows))
    return None


@click.command(short_help="Show what a trial changed, or how two trials differ.")
@click.argument("trial", metavar="TRIAL")
@click.argument("other", metavar="[OTHER]", required=False)
def diff(trial: str, other: str | None) -> None:
    """Show what TRIAL changed against its parent, or what OTHER changed against TRIAL."""
    opened = open_study()
    this = found(opened, trial)
    text = opened.repo.diff(this.oid, found(opened, other).oid) if other else change_of(opened.repo, this)
    click.echo(printable_lines(text)) if text else say("no difference")


@click.command(short_help="Print what a specialist would be shown.")
@click.argument("specialist")
@click.option("--parent", metavar="TRIAL", help="From this trial instead of the head.")
@click.option("--no-lineage", is_flag=True, help="As in the control arm, which sees nothing of other trials.")
@click.option("--roster", metavar="ROSTER", help="As with `run --roster`.")
def brief(specialist: str, parent: str | None, no_lineage: bool, roster: str | None) -> None:
    """Print exactly what SPECIALIST would be shown now."""
    from gitresearch.briefing import Briefing  # noqa: PLC0415  (no other look needs it)

    opened = open_study()
    study = opened.study.enrolled(roster or "")
    study = without_lineage(study) if no_lineage else study
    lineage = opened.lineage()
    who = study.specialist(specialist)
    start = found(opened, parent) if parent else (lineage.head.trial if lineage.head else None)
    if start is None:
        raise GitResearchError("the baseline has no score yet", "gitresearch run --trials 0")
    click.echo(Briefing(opened.repo, study, opened.base).text(lineage, who, start.oid), nl=False)
