"""A move in words: the hypothesis a person reads in `git log`, with reasons they can check against the lineage."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from gitresearch.agents.offline.domain import Range
from gitresearch.agents.offline.history import Scene
from gitresearch.agents.offline.levers import Lever
from gitresearch.agents.offline.literals import Value, shown
from gitresearch.agents.offline.steer import Move
from gitresearch.outcome import signed
from gitresearch.study import Objective
from gitresearch.text import plural
from gitresearch.trial import SUBJECT_LIMIT


def subject(levers: Mapping[str, Lever], move: Move) -> str:
    """One line in the imperative; the file's name where it fits."""
    parts = [_verb(levers[key], value) for key, value in move.changes.items()]
    text = ", ".join(parts)
    files = {PurePosixPath(levers[key].path).name for key in move.changes}
    full = f"{text} in {' and '.join(sorted(files))}"
    return next((line for line in (full, text) if len(line) <= SUBJECT_LIMIT), _short(levers, move))


def _short(levers: Mapping[str, Lever], move: Move) -> str:
    parts = [f"{levers[key].name} → {shown(value)}" for key, value in move.changes.items()]
    return f"set {', '.join(parts)}"


def _verb(lever: Lever, value: Value) -> str:
    old, new = shown(lever.value), shown(value)
    if isinstance(value, bool):
        return f"turn {lever.name} {'on' if value else 'off'}"
    if lever.is_switch:
        return f"swap {old} for {new} ({lever.name})"
    if isinstance(value, (int, float)) and isinstance(lever.value, (int, float)):
        return f"{'raise' if value > lever.value else 'lower'} {lever.name} {old} → {new}"
    return f"switch {lever.name} {old} → {new}"


def body(scene: Scene, objective: Objective, move: Move) -> str:
    """What is changed, and what the lineage says about it."""
    lines = []
    for key, value in move.changes.items():
        lever = scene.levers[key]
        lines.append(f"{lever.path}:{lever.line}: {lever.name} from {shown(lever.value)} to {shown(value)}.")
        lines.append(_record(scene, objective, lever, value))
        if value in scene.hints[key]:
            lines.append("The study says that it is worth trying.")
    if move.gain is not None and moved(scene, move):
        change = -move.gain if objective.direction == "min" else move.gain
        lines.append(f"Expected: {objective.metric} {signed(change)} ± {move.sd:.2g}, from the effects so far.")
    return "\n".join(lines)


def moved(scene: Scene, move: Move) -> bool:
    """Whether any lever of the move was ever moved before: if not, nothing is known about it."""
    return any(point.values.get(key, at) != at for point in scene.points.values() for key, at in _here(scene, move))


def _here(scene: Scene, move: Move) -> list[tuple[str, Value]]:
    return [(key, scene.here[key]) for key in move.changes]


def _record(scene: Scene, objective: Objective, lever: Lever, value: Value) -> str:
    """How trials fared that moved the lever the same way."""
    gains, failed = [], 0
    for point in scene.points.values():
        parent = scene.points.get(point.parent)
        if parent is None or not _same_way(lever, parent.values.get(lever.key), point.values.get(lever.key), value):
            continue
        if point.score is not None and parent.score is not None:
            gains.append(objective.gain(point.score, parent.score))
        failed += point.node.failed
    way = _way(lever, value)
    if not gains and not failed:
        return f"No trial {way} it so far."
    told = f"{plural(len(gains) + failed, 'trial')} {way} it: "
    parts = []
    if gains:
        best = -max(gains) if objective.direction == "min" else max(gains)
        parts.append(f"{sum(gain > 0 for gain in gains)} gained, best {signed(best)}")
    if failed:
        parts.append(f"{failed} failed")
    return told + ", ".join(parts) + "."


def _way(lever: Lever, value: Value) -> str:
    if isinstance(lever.domain, Range) and isinstance(value, (int, float)) and isinstance(lever.value, (int, float)):
        return "raised" if value > lever.value else "lowered"
    return f"set {shown(value)} for"


def _same_way(lever: Lever, before: Value, after: Value, value: Value) -> bool:
    if before == after or before is None or after is None:
        return False
    if isinstance(lever.domain, Range):
        numbers = (before, after, value, lever.value)
        old, new, to, at = (float(x) if isinstance(x, (int, float)) else 0.0 for x in numbers)
        return (new > old) == (to > at)
    return after == value
