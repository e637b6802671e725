"""The runner: items -> rows of tokens, a predictor's logits -> accuracies -> the metric.

A row is a prompt and a continuation. The predictor is sent prompts, and must send its logits for the next token of a
row before it is told that token; the log-softmax is ours. So causality and normalisation hold by construction: nothing
that a predictor does with what it has seen can be other than a language model. Asking for log-probabilities of tokens
that the predictor can see, and probing some of them afterwards, would not do: it has a memory, so it can repeat to a
probe whatever it claimed before.

All rows of an item go in one batch, in step and in an order that it can't know, so no option is scored with the others
seen. Some items are asked twice, in other company: an answer that changes with its batch, or with what came before, is
invalid. The rows of the held-out text are asked among the others and give its bits per byte.

    metric = mean over tasks of (accuracy − chance) / (1 − chance)
"""

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np

Encode = Callable[[list[str]], list[list[int]]]
DTYPES = {"float32": "<f4", "float16": "<f2"}


class Like(Protocol):
    """What the runner needs to know of a task."""

    label: str
    type: str
    shots: int
    delimiter: str
    chance: float
    items: tuple[dict[str, Any], ...]


class Invalid(Exception):
    """The predictor's answer can't be what an honest trial makes."""


class Crashed(Exception):
    """The predictor stopped, or predicted something that is no number."""


@dataclass(frozen=True)
class Row:
    """A prompt's tokens and those to be predicted after it, one at a time."""

    prompt: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """An item as rows. `gold` is the right row; of a task of one row it is 0."""

    task: str
    rows: tuple[Row, ...]
    gold: int

    @property
    def size(self) -> tuple[int, int]:
        return max(len(row.prompt) for row in self.rows), max(len(row.continuation) for row in self.rows)


@dataclass
class Answer:
    """What came of a row: nats of each token, and whether each was the likeliest."""

    nats: list[float]
    greedy: list[bool]


# -----------------------------------------------------------------------------
# items to rows


def select(task: Like, most: int) -> list[dict[str, Any]]:
    """The items that are asked: all, or the first so many of the public runner's own order."""
    items = list(task.items)
    if most:
        random.Random(1337).shuffle(items)  # noqa: S311
    return items[: most or None]


def render(task: Like, items: Sequence[dict[str, Any]], index: int) -> list[str]:
    """The texts of one item: one an option; of a language task the text without its answer, and with it."""
    item, shots = items[index], ""
    if task.shots:
        others = [i for i in range(len(items)) if i != index]
        for i in random.Random(1234 + index).sample(others, min(task.shots, len(others))):  # noqa: S311
            shots += f"{_example(task, items[i])}\n\n"
    if task.type == "multiple_choice":
        return [f"{shots}{item['query']}{task.delimiter}{choice}" for choice in item["choices"]]
    if task.type == "schema":
        return [f"{shots}{context}{task.delimiter}{item['continuation']}" for context in item["context_options"]]
    before = f"{shots}{item['context'].strip()}{task.delimiter}"
    return [before.strip(), before + item["continuation"]]


def _example(task: Like, item: dict[str, Any]) -> str:
    """An item with its answer."""
    if task.type == "multiple_choice":
        return f"{item['query']}{task.delimiter}{item['choices'][item['gold']]}"
    if task.type == "schema":
        return f"{item['context_options'][item['gold']]}{task.delimiter}{item['continuation']}"
    return f"{item['context'].strip()}{task.delimiter}{item['continuation']}"


def rows_of(kind: str, tokens: Sequence[Sequence[int]]) -> tuple[Row, ...]:
    """Where the continuation begins: after the common beginning of the options, before the common end of the contexts,
    or after the text without its answer. It is never empty."""
    if kind == "schema":
        same = common(tokens, end=True)
        same = max(1, min(same, *map(len, tokens)))
        return tuple(Row(tuple(row[: len(row) - same]), tuple(row[len(row) - same :])) for row in tokens)
    start = common(tokens)
    if kind == "language_modeling":
        tokens = tokens[1:]
    start = max(0, min(start, min(map(len, tokens)) - 1))
    return tuple(Row(tuple(row[:start]), tuple(row[start:])) for row in tokens)


def common(tokens: Sequence[Sequence[int]], *, end: bool = False) -> int:
    """How many tokens all rows share at their beginning, or at their end."""
    length = 0
    for column in zip(*(reversed(row) if end else row for row in tokens), strict=False):
        if len(set(column)) > 1:
            break
        length += 1
    return length


def questions(tasks: Sequence[Like], encode: Encode, most: int) -> list[Question]:
    """Every item of every task as rows of tokens."""
    found = []
    for task in tasks:
        items = select(task, most)
        texts = [render(task, items, i) for i in range(len(items))]
        tokens = iter(encode([text for group in texts for text in group]))
        for item, group in zip(items, texts, strict=True):
            rows = rows_of(task.type, [next(tokens) for _ in group])
            found.append(Question(task.label, rows, int(item.get("gold", 0))))
    return found


def windows(tokens: Sequence[int], length: int, count: int) -> list[Question]:
    """Pieces of the held-out text, spread over it, each to be predicted from nothing."""
    step = max(length, len(tokens) // max(1, count))
    starts = range(0, len(tokens) - length + 1, step)
    return [Question("", (Row((), tuple(tokens[at : at + length])),), 0) for at in list(starts)[:count]]


# -----------------------------------------------------------------------------
# the talk with the predictor


def batches(asked: Sequence[Question], most_rows: int) -> list[list[int]]:
    """The numbers of questions by batch: of like size, so that little is padding; an item's rows stay together."""
    order = sorted(range(len(asked)), key=lambda i: (asked[i].size[1].bit_length(), asked[i].size, i))
    made: list[list[int]] = []
    rows = most_rows
    for i in order:
        if not made or rows + len(asked[i].rows) > most_rows:
            made.append([])
            rows = 0
        made[-1].append(i)
        rows += len(asked[i].rows)
    return made


class Talk:
    """One predictor at the other end of two pipes. `dtype` is that of the logits it sends."""

    def __init__(self, to_trial: BinaryIO, from_trial: BinaryIO, vocab: int, dtype: str = "float32") -> None:
        self.to_trial, self.from_trial, self.vocab, self.dtype = to_trial, from_trial, vocab, dtype

    def begin(self, count: int) -> None:
        self._send(_line({"vocab": self.vocab, "batches": count, "dtype": self.dtype}))

    def ask(self, rows: Sequence[Row]) -> list[Answer]:
        """What the predictor makes of each row, one token at a time. An ended row is told by −1, and gets no more."""
        steps = max(len(row.continuation) for row in rows)
        length = max(len(row.prompt) for row in rows)
        prompts = np.zeros((len(rows), length), dtype="<i4")
        targets = np.full((len(rows), steps), -1, dtype="<i4")
        for i, row in enumerate(rows):
            prompts[i, : len(row.prompt)] = row.prompt
            targets[i, : len(row.continuation)] = row.continuation
        lengths = np.array([len(row.prompt) for row in rows], dtype="<i4")
        self._send(_line({"rows": len(rows), "length": length, "steps": steps}) + lengths.tobytes() + prompts.tobytes())
        answers = [Answer([], []) for _ in rows]
        for step in range(steps):
            alive = np.flatnonzero(targets[:, step] >= 0)
            nats, best = self._judge(self._receive(len(alive)), targets[alive, step])
            for i, cost, greedy in zip(alive, nats, best, strict=True):
                answers[i].nats.append(float(cost))
                answers[i].greedy.append(bool(greedy))
            if step + 1 < steps:
                self._send(np.where(targets[:, step + 1] >= 0, targets[:, step], -1).astype("<i4").tobytes())
        return answers

    def end(self) -> None:
        self.to_trial.close()
        if self.from_trial.read(1):
            raise Invalid("the predictor sent more than was asked for")

    def _judge(self, logits: Any, target: Any) -> tuple[Any, Any]:
        """−log p of each target under our own log-softmax, and whether it is the argmax."""
        if not np.isfinite(logits).all():
            raise Crashed("a prediction is not finite")
        logits = logits.astype(np.float64)  # in 32 bits the difference of two that are finite may not be
        logits = logits - logits.max(axis=1, keepdims=True)
        at = logits[np.arange(len(target)), target].astype(np.float64)
        return np.log(np.exp(logits).sum(axis=1, dtype=np.float64)) - at, logits.argmax(axis=1) == target

    def _send(self, data: bytes) -> None:
        try:
            while data:
                data = data[self.to_trial.write(data) :]
        except BrokenPipeError:
            raise Crashed("the predictor stopped reading") from None

    def _receive(self, rows: int) -> Any:
        kind = DTYPES[self.dtype]
        size = rows * self.vocab * np.dtype(kind).itemsize
        data = self.from_trial.read(size)
        if len(data) != size:
            raise Crashed(f"the predictor ended after {len(data)} of {size} bytes of a prediction")
        return np.frombuffer(data, dtype=kind).reshape(rows, self.vocab)


def _line(what: dict[str, Any]) -> bytes:
    return json.dumps(what).encode() + b"\n"


def interrogate(
    asked: Sequence[Question], talk: Talk, most_rows: int, again: int, tolerance: float
) -> list[list[Answer]]:
    """The answers to all questions, one a row. Batches come in an order that can't be foreseen, and so do the rows in
    each; some questions are asked twice, and Invalid says where the second answer was another."""
    chance = random.SystemRandom()
    plan = batches(asked, most_rows)
    twice = _mixed([i for i in range(len(asked)) if asked[i].task], again, asked, most_rows, chance)
    plan += twice
    chance.shuffle(plan)
    found: dict[int, list[Answer]] = {}
    talk.begin(len(plan))
    for batch in plan:
        places = [(i, k) for i in batch for k in range(len(asked[i].rows))]
        chance.shuffle(places)
        told = dict(zip(places, talk.ask([asked[i].rows[k] for i, k in places]), strict=True))
        for i in batch:
            answers = [told[i, k] for k in range(len(asked[i].rows))]
            if i in found:
                _compare(found[i], answers, tolerance)
            else:
                found[i] = answers
    talk.end()
    return [found[i] for i in range(len(asked))]


def _mixed(
    numbers: list[int], again: int, asked: Sequence[Question], most_rows: int, chance: random.Random
) -> list[list[int]]:
    """Questions to be asked twice, of all sizes together, so that their padding and their neighbours are others."""
    made: list[list[int]] = [[]]
    for i in chance.sample(numbers, min(again, len(numbers))):
        if sum(len(asked[k].rows) for k in made[-1]) + len(asked[i].rows) > most_rows:
            made.append([])
        made[-1].append(i)
    return [batch for batch in made if batch]


def _compare(first: Sequence[Answer], second: Sequence[Answer], tolerance: float) -> None:
    for a, b in zip(first, second, strict=True):
        worst = max(abs(x - y) for x, y in zip(a.nats, b.nats, strict=True))
        if worst > tolerance:
            raise Invalid(f"a prediction changes by {worst:.2g} nats with its batch, or with what was asked before")


# -----------------------------------------------------------------------------
# answers to the metric


def credit(question: Question, answers: Sequence[Answer]) -> float:
    """1 for a right answer. Options that share the least loss share the credit: no place is better than another."""
    if len(question.rows) == 1:
        return float(all(answers[0].greedy))
    losses = [math.fsum(answer.nats) / len(answer.nats) for answer in answers]
    best = [i for i, loss in enumerate(losses) if loss == min(losses)]
    return (question.gold in best) / len(best)


def centred(accuracy: float, chance: float) -> float:
    """0 for what chance gives, 1 for all right; below 0 for less than chance."""
    return (accuracy - chance) / (1.0 - chance)


def accuracies(asked: Sequence[Question], answers: Sequence[Sequence[Answer]]) -> dict[str, float]:
    """The share of right answers of each task."""
    got: dict[str, list[float]] = {}
    for question, told in zip(asked, answers, strict=True):
        if question.task:
            got.setdefault(question.task, []).append(credit(question, told))
    return {task: math.fsum(found) / len(found) for task, found in got.items()}


def metrics(tasks: Sequence[Like], found: dict[str, float], name: str) -> Iterator[tuple[str, float]]:
    """The mean of the centred accuracies under its name, then each task's own."""
    each = {task.label: centred(found[task.label], task.chance) for task in tasks}
    yield name, math.fsum(each.values()) / len(each)
    yield from ((f"task_{label}", value) for label, value in each.items())
