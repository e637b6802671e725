"""What a person sees while the loop runs: a live display on a terminal, plain lines elsewhere.

Both are told the same three things (a trial was proposed, an outcome is in, something was said) and each run's phase as
it ticks. A trial's own words are escaped before they are shown.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

from gitresearch.cli import render
from gitresearch.lab import Lab
from gitresearch.lineage import Node
from gitresearch.outcome import Outcome
from gitresearch.stages import Event
from gitresearch.study import Study
from gitresearch.text import plural, printable
from gitresearch.trial import Trial


class Progress(Protocol):
    """Told by loop and evaluator, from several threads."""

    def phase(self, event: Event) -> None: ...
    def proposed(self, trial: Trial) -> None: ...
    def settled(self, trial: Trial, outcome: Outcome) -> None: ...
    def said(self, text: str) -> None: ...
    def watching(self, lab: Lab) -> Any: ...


def choose_progress(study: Study, *, plain: bool) -> Progress:
    return Plain(study) if plain or not sys.stderr.isatty() else Live(study)


class Plain:
    """One line for each thing that happens, with the time since the start."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.started = time.monotonic()
        self.lab: Lab | None = None
        self.lock = threading.Lock()
        self.phases: dict[tuple[str, str], str] = {}

    def line(self, text: str) -> None:
        seconds = int(time.monotonic() - self.started)
        with self.lock:
            click.echo(f"{seconds // 60:3d}:{seconds % 60:02d}  {text}", err=True)

    def phase(self, event: Event) -> None:
        """A line when a run enters a new phase; the ticks in between are for the live display."""
        key = (event.trial, event.run)
        if self.phases.get(key) != event.phase:
            self.phases[key] = event.phase
            if event.phase in ("smoke", "train", "score"):
                self.line(f"{event.trial[:8]}  {event.phase:<9} {event.purpose}, budget {event.budget:g} s")
            elif event.phase == "in use":
                told = f"somebody else is on the accelerator; waiting for {event.budget:g} s at most"
                self.line(f"{event.trial[:8]}  {'waits':<9} {told}")

    def proposed(self, trial: Trial) -> None:
        self.line(f"{trial.short}  proposed  {trial.specialist}: {printable(trial.subject)}")

    def settled(self, trial: Trial, outcome: Outcome) -> None:
        self.line(f"{trial.short}  {render.tint(outcome.summary.status, printable(outcome.headline))}")
        self.line(self.standing())

    def standing(self) -> str:
        """How far the study is: trials, best, head."""
        if self.lab is None:
            return ""
        with self.lab.lock:
            lineage = self.lab.lineage
            best, head, count = lineage.best, lineage.head, len(lineage) - 1
        parts = [plural(count, "trial")]
        for name, node in (("best", best), ("head", head)):
            if node is not None and node.score is not None:
                parts.append(f"{name} {render.score_text(node)} ({node.trial.short})")
        return "          " + ", ".join(parts)

    def said(self, text: str) -> None:
        self.line(printable(text))

    @contextmanager
    def watching(self, lab: Lab) -> Iterator[None]:
        self.lab = lab
        made = plural(max(0, len(lab.lineage) - 1), "trial")
        self.line(f"study {self.study.name}: {made} so far, metric {self.study.objective.metric}")
        yield


class Live(Plain):
    """The same lines above a display that stands still: what runs, its phase, the time left of its budget."""

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self.running: dict[tuple[str, str], Event] = {}
        self.live: Any = None

    def line(self, text: str) -> None:
        if self.live is None:
            return super().line(text)
        from rich.text import Text  # noqa: PLC0415  (100 ms that a pipe need not pay)

        self.live.console.print(Text.from_ansi(text), soft_wrap=True)
        return None

    def phase(self, event: Event) -> None:
        key = (event.trial, event.run)
        with self.lock:
            if event.phase == "done":
                self.running.pop(key, None)
            else:
                self.running[key] = event

    def __rich__(self) -> Any:
        """Drawn four times a second by rich."""
        from rich.table import Table  # noqa: PLC0415

        grid = Table.grid(padding=(0, 2))
        with self.lock:
            events = list(self.running.values())
        for event in events:
            share = min(1.0, event.used / event.budget) if event.budget else 0.0
            bar = "━" * round(24 * share) + "╌" * (24 - round(24 * share))
            left = f"{max(0.0, event.budget - event.used):5.1f} s left" if event.budget else ""
            grid.add_row(event.trial[:8], event.purpose, event.phase, bar, left, said(event), self.subject(event.trial))
        grid.add_row("", "", "", self.standing().strip())
        return grid

    def subject(self, oid: str) -> str:
        node: Node | None = self.lab.lineage.get(oid) if self.lab else None
        return printable(node.trial.subject)[:60] if node else ""

    @contextmanager
    def watching(self, lab: Lab) -> Iterator[None]:
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live as RichLive  # noqa: PLC0415

        with super().watching(lab), RichLive(self, console=Console(stderr=True), refresh_per_second=4) as live:
            self.live = live
            try:
                yield
            finally:
                self.live = None


def said(event: Event) -> str:
    """How far a run says it is, and its last loss."""
    metric = "" if event.metric is None else f"  loss {event.metric:.4g}"
    return "" if event.share is None else f"{event.share:4.0%}{metric}"
