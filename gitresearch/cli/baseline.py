"""The verb that calibrates: how far seeds alone move the metric, and what effect a claim of the study can see."""

from typing import Any

import click

from gitresearch.cli.context import Opened, open_study, say
from gitresearch.cli.look import as_json, emit, noise_of
from gitresearch.cli.progress import choose_progress
from gitresearch.cli.work import attended, open_lab
from gitresearch.decision import first_claim_sees, share, values
from gitresearch.errors import GitResearchError
from gitresearch.lab import Lab
from gitresearch.loop import Stop
from gitresearch.noise import Spread, sd_interval
from gitresearch.outcome import Outcome, mean, stdev
from gitresearch.text import plural

LEVEL, POWER = 0.9, 0.8
SIZES = (2, 3, 5, 8, 12, 20)  # of a confirmation, beside the study's own


@click.command(short_help="Calibrate: run the baseline on seeds, tell the noise.")
@click.option(
    "--seeds", type=click.IntRange(2, 1000), metavar="K", help="So many seeds in all. [default: the study's number]"
)
@click.option("--allow-unsandboxed", is_flag=True, help="Run trials with limits only where no sandbox works.")
@click.option("--plain", is_flag=True, help="Plain lines instead of a live display.")
@as_json
def baseline(seeds: int | None, allow_unsandboxed: bool, plain: bool, json_: bool) -> None:
    """Run the unchanged recipe on seeds until there are K of them, and tell what they say of the noise.

    Its mean; σ over seeds, and where σ lies with 90 % (chi squared); and the smallest effect that a first claim sees
    with power 0.8, by the number of its seeds. `run` calibrates with the study's number of seeds by itself; more of
    them make every claim against the baseline sharper. Runs that are there already count.
    """
    opened = open_study(begin=True)
    wanted = max(seeds or 0, opened.study.seeds.baseline)
    found = calibration(opened)
    if found is None or len(values(found, "baseline")) < wanted:
        progress = choose_progress(opened.study, plain=plain)
        lab, stop = open_lab(opened, progress, allow_unsandboxed), Stop()
        attended(lambda: calibrate(lab, wanted, stop), lab, stop, progress)
        lab.repo.pack_if_needed()
        if stop.asked:
            raise KeyboardInterrupt
        found = calibration(opened)
    if found is None:
        raise GitResearchError("the baseline has no score yet", "gitresearch baseline")
    facts = facts_of(opened, found)
    if json_:
        return emit(facts)
    for line in told(facts):
        click.echo(line)
    if found.summary.reason:
        say(found.summary.reason)
    return None


def calibration(opened: Opened) -> Outcome | None:
    """What is known of the baseline; None where it was not measured."""
    node = next(iter(opened.kept().baselines()), None)
    return opened.repo.outcome(node.trial.oid) if node else None


def calibrate(lab: Lab, wanted: int, stop: Stop) -> None:
    """Seeds one after another until there are enough, or somebody stops it."""
    while not stop.asked and lab.missing(lab.baseline.oid, "baseline", wanted):
        lab.calibrate(stop.now)


def facts_of(opened: Opened, found: Outcome) -> dict[str, Any]:
    """Mean, spread and what can be seen, as data; σ is of the baseline's own seeds, `noise` with those of the keeps."""
    study, runs = opened.study, values(found, "baseline")
    own = Spread(stdev(runs), len(runs) - 1)
    noise = noise_of(opened.repo, opened.kept(), found)
    low, high = sd_interval(own.sd, own.df, LEVEL)
    sizes = sorted({*SIZES, study.seeds.confirm})
    return {
        "metric": study.objective.metric,
        "mean": mean(runs),
        "n": len(runs),
        "sd": own.sd,
        "sd_interval": [low, high],
        "level": LEVEL,
        "noise": {"sd": noise.sd, "df": noise.df},
        "alpha": share(study, 1),
        "power": POWER,
        "confirm": study.seeds.confirm,
        "sees": [{"seeds": n, "effect": first_claim_sees(study, noise, n, len(runs), POWER)} for n in sizes],
    }


def told(facts: dict[str, Any]) -> list[str]:
    """The same for people."""
    low, high = facts["sd_interval"]
    lines = [f"{facts['metric']} {facts['mean']:.6g} over {plural(facts['n'], 'seed')} of the unchanged recipe"]
    if not facts["noise"]["sd"]:
        return [*lines, "every seed gives the same: any difference is seen"]
    lines.append(f"σ {facts['sd']:.3g}, with {facts['level']:.0%} between {low:.3g} and {high:.3g}")
    if facts["noise"]["df"] > facts["n"] - 1:
        lines.append(
            f"with the seeds of the keeps σ {facts['noise']['sd']:.3g} ({facts['noise']['df']} degrees of freedom)"
        )
    for row in facts["sees"]:
        own = "  (the study's number)" if row["seeds"] == facts["confirm"] else ""
        seeds = plural(row["seeds"], "seed")
        lines.append(f"a confirmation with {seeds} sees {row['effect']:.3g} with power {facts['power']:g}{own}")
    return lines
