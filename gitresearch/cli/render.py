"""How trials look on a terminal: aligned columns, nothing a trial wrote goes out unescaped."""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from gitresearch.lineage import Lineage, Node
from gitresearch.outcome import EARLY_STOP, signed
from gitresearch.text import printable
from gitresearch.trial import Trial

COLOURS = {
    "baseline": "cyan",
    "keep": "green",
    "discard": "bright_black",
    "early_stop": "bright_black",
    "pending": "yellow",
    "unreadable": "magenta",
}


def tint(status: str, text: str) -> str:
    """The text in its status's colour; click drops colours where stdout is no terminal."""
    return click.style(text, fg=COLOURS.get(status, "red"))


def status_word(node: Node) -> str:
    """`keep*` is a confirmed keep."""
    return f"{node.status}*" if node.summary and node.summary.confirmed else node.status


def score_text(node: Node) -> str:
    summary = node.summary
    if summary is None or summary.score is None:
        return ""
    spread = f" ±{summary.sd:.2g}" if summary.n > 1 else ""
    return f"{summary.score:.5g}{spread}"


def line(lineage: Lineage, node: Node) -> str:
    """One trial on one line: oid, status, score, change against its parent, specialist, hypothesis."""
    gain = lineage.depth_gain(node.trial.oid)
    parents = lineage.parents(node.trial.oid)
    change = ""
    if gain is not None and node.score is not None and parents[0].score is not None:
        change = signed(node.score - parents[0].score)
    status = tint(node.status, f"{status_word(node):<21}")
    what = node.trial.subject
    if (node.failed or node.status == EARLY_STOP) and node.summary and node.summary.label:
        what = f"{what}  [{node.summary.label}]"
    oid = click.style(node.trial.short, fg="yellow")
    return f"{oid}  {status} {score_text(node):>15} {change:>9}  {node.trial.specialist:<13} {printable(what)}"


def header(metric: str) -> str:
    return click.style(
        f"{'trial':<8}  {'status':<21} {metric:>15} {'vs parent':>9}  {'specialist':<13} hypothesis", bold=True
    )


def as_json(lineage: Lineage, node: Node) -> dict[str, Any]:
    """A trial as data, for `--json`."""
    trial, summary = node.trial, node.summary
    row: dict[str, Any] = {
        "trial": trial.oid,
        "branch": trial.branch,
        "parents": list(trial.parents),
        "time": trial.time,
        "status": node.status,
        "specialist": trial.specialist,
        "operator": trial.operator,
        "hypothesis": trial.subject,
        "expected": trial.hypothesis.expected,
        "assisted_by": trial.hypothesis.assisted_by,
    }
    if summary:
        row |= {
            "metric": summary.metric,
            "score": summary.score,
            "sd": summary.sd,
            "n": summary.n,
            "confirmed": summary.confirmed,
            "seconds": summary.seconds,
            "evaluated": summary.at,
            "label": summary.label,
            "reason": summary.reason,
            "gain_over_parent": lineage.depth_gain(trial.oid),
        }
    if node.broken:
        row["broken"] = node.broken
    return row


def quoted(text: str, indent: str = "    ") -> str:
    return "\n".join(indent + printable(row) for row in text.split("\n"))


def table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as aligned columns under their keys."""
    rows = [{key: cell(value) for key, value in row.items()} for row in rows]
    if not rows:
        return ""
    widths = {key: max(len(key), *(len(row.get(key, "")) for row in rows)) for key in rows[0]}
    lines = ["  ".join(click.style(f"{key:<{width}}", bold=True) for key, width in widths.items())]
    lines += ["  ".join(f"{row.get(key, ''):<{width}}" for key, width in widths.items()).rstrip() for row in rows]
    return "\n".join(lines)


def cell(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.5g}"
    return printable(str(value))


def story(trial: Trial) -> str:
    """The commit message's body, indented as `git log` does."""
    body = trial.hypothesis.body
    return quoted(trial.subject) + (f"\n\n{quoted(body)}" if body else "")
