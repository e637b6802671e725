"""The nine tasks of mini-CORE, made from held-out text: the same text gives the same items, byte for byte.

Each task is of one of CORE's three types (multiple choice, schema, language modeling), so the runner is CORE's. Items
are drawn from all places that fit, with a generator of the task's own, in fixed shares of the three sources. The right
option's place is drawn too, and the runner shuffles again. Where words are to be told apart, the wrong ones are about
as frequent as the right one, so that counting words alone does not solve the task.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

Item = dict[str, Any]
SHARE = {"speeches": 0.45, "bible": 0.35, "novel": 0.20}  # of a task's items; the novel alone is short
SENTENCE = re.compile(r"(?<=[.!?;:])[\"'”’)]?\s+")
WORD = re.compile(r"[A-Za-z]+(?:['’][a-z]+)?")
BAND = 40  # distractors stand at most so many ranks away in the list of words by frequency
FUNCTION_WORDS = 60  # the most frequent words


@dataclass(frozen=True)
class Texts:
    """Sentences of held-out documents by source, and what the training text says about words."""

    held_out: dict[str, list[str]]
    train: dict[str, list[str]]
    sentences: dict[str, list[list[str]]] = field(init=False)

    def __post_init__(self) -> None:
        cut = {source: [sentences(text) for text in texts] for source, texts in self.held_out.items()}
        object.__setattr__(self, "sentences", cut)

    @cached_property
    def ranked(self) -> list[str]:
        """The training text's words, the most frequent first."""
        counts: Counter[str] = Counter()
        for texts in self.train.values():
            for text in texts:
                counts.update(WORD.findall(text))
        return sorted(counts, key=lambda word: (-counts[word], word))

    @cached_property
    def rank(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.ranked)}

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """Names by source: words that are capitalised within a sentence, often, and hardly ever written small."""
        found = {}
        for source, texts in self.train.items():
            inner: Counter[str] = Counter()
            for text in texts:
                inner.update(re.findall(r"(?<=[a-z,] )[A-Z][a-z]{2,}", text))
            small = self.rank
            found[source] = sorted(name for name, n in inner.items() if n >= 6 and name.lower() not in small)
        return found

    @cached_property
    def formulas(self) -> dict[tuple[str, ...], str]:
        """Four words that the training text goes on from in one way, in at least nine of ten of 8 times or more."""
        counts: Counter[tuple[str, ...]] = Counter()
        for texts in self.train.values():
            for text in texts:
                words = text.split()
                counts.update(zip(words, words[1:], words[2:], words[3:], words[4:], strict=False))
        follow: dict[tuple[str, ...], Counter[str]] = {}
        for gram, n in counts.items():
            if n >= 3:
                follow.setdefault(gram[:4], Counter())[gram[4]] += n
        return {
            head: best[0][0]
            for head, after in follow.items()
            if (best := after.most_common(1)) and best[0][1] >= 8 and best[0][1] >= 0.9 * sum(after.values())
        }

    def passages(self, source: str, most: int) -> Iterator[tuple[str, str]]:
        """Each sentence, with as many of those before it as fit into so many characters."""
        for text in self.sentences[source]:
            for i in range(1, len(text)):
                before = text[i - 1]
                j = i - 1
                while j and len(before) + len(text[j - 1]) + len(text[i]) < most:
                    j -= 1
                    before = f"{text[j]} {before}"
                if 40 <= len(before) + len(text[i]) <= most:
                    yield before, text[i]

    def pairs(self, source: str, low: int = 40, high: int = 160) -> Iterator[tuple[str, str]]:
        """Neighbouring sentences of a fair length."""
        for text in self.sentences[source]:
            for a, b in pairwise(text):
                if low <= len(a) <= high and low <= len(b) <= high:
                    yield a, b


def sentences(text: str) -> list[str]:
    return [piece for part in SENTENCE.split(text) if (piece := part.strip())]


def crop(text: str, length: int) -> str:
    """The beginning of a text, to a word's end."""
    return text if len(text) <= length else text[:length].rsplit(" ", 1)[0]


def choices(right: str, wrong: list[str], rng: random.Random) -> Item:
    """The options in a drawn order."""
    options = [right, *wrong]
    rng.shuffle(options)
    return {"choices": options, "gold": options.index(right)}


def next_sentence(texts: Texts, source: str, rng: random.Random) -> Iterator[Item]:
    """Which of four sentences comes next? One of the others is of the same source, and one of each other source."""
    wrong = [[b for _, b in texts.pairs(name)] for name in texts.sentences]
    for a, b in texts.pairs(source):
        others = [rng.choice(found) for found in wrong]
        if b not in others:
            yield {"query": a, **choices(crop(b, 50), [crop(other, 50) for other in others], rng)}


def near(word: str, texts: Texts, rng: random.Random, ranked: list[str]) -> list[str]:
    """Three other words about as frequent."""
    at = texts.rank[word]
    band = [other for other in ranked[max(0, at - BAND) : at + BAND] if other.lower() != word.lower()]
    return rng.sample(band, 3)


def last_word(texts: Texts, source: str, rng: random.Random) -> Iterator[Item]:
    """Which of four words, each as frequent, ends the sentence?"""
    for text in texts.sentences[source]:
        for before, sentence in pairwise(text):
            words = sentence.rstrip(".!?;:,\"'”’)").split(" ")
            if 8 <= len(words) <= 30 and words[-1] in texts.rank and FUNCTION_WORDS < texts.rank[words[-1]] < 6000:
                query = " ".join(words[:-1])
                query = f"{before} {query}" if len(query) + len(before) < 180 else query
                yield {"query": query, **choices(words[-1], near(words[-1], texts, rng, texts.ranked), rng)}


def function_word(texts: Texts, source: str, rng: random.Random) -> Iterator[Item]:
    """Which of four of the most frequent words stands here, judged with the three words after it?"""
    top = texts.ranked[:FUNCTION_WORDS]
    for a, b in texts.pairs(source, 60, 200):
        words = b.split(" ")
        places = [i for i, word in enumerate(words[:-3]) if i >= 5 and word in top]
        if places:
            i = rng.choice(places)
            tail = " ".join(words[i + 1 : i + 4])
            wrong = rng.sample([word for word in top if word.lower() != words[i].lower()], 3)
            options = choices(f"{words[i]} {tail}", [f"{word} {tail}" for word in wrong], rng)
            query = " ".join(words[:i])
            yield {"query": f"{a} {query}" if len(a) + len(query) < 160 else query, **options}


def word_order(texts: Texts, source: str, rng: random.Random) -> Iterator[Item]:
    """Which of four orders of the sentence's next five words is its own?"""
    for _, b in texts.pairs(source, 60, 200):
        words = b.split(" ")
        if len(words) < 12:
            continue
        i = rng.randrange(5, len(words) - 5)
        own = words[i : i + 5]
        mixed = set()
        for _ in range(12):
            other = list(own)
            rng.shuffle(other)
            mixed.add(" ".join(other))
        wrong = sorted(mixed - {" ".join(own)})
        if len(wrong) >= 3:
            yield {"query": " ".join(words[:i]), **choices(" ".join(own), rng.sample(wrong, 3), rng)}


def which_context(texts: Texts, source: str, rng: random.Random) -> Iterator[Item]:
    """Which of three sentences, one of each source, does this sentence follow?"""
    others = {name: [a for a, _ in texts.pairs(name)] for name in texts.sentences if name != source}
    for a, b in texts.pairs(source):
        options = choices(a, [rng.choice(found) for found in others.values()], rng)
        yield {"context_options": options["choices"], "gold": options["gold"], "continuation": crop(b, 45)}


def name_recall(texts: Texts, source: str, rng: random.Random) -> Iterator[Item]:
    """A name comes again: in which of four versions of the passage before it was it that name?"""
    names = texts.names[source]
    for a, b in texts.passages(source, 260):
        words = b.split(" ")
        bare = [word.rstrip(".,;:!?'’s") for word in words]
        known = set(WORD.findall(a)).intersection(names)
        again = [i for i in range(1, len(words)) if bare[i] in known and bare[i] not in bare[:i]]
        others = [found for found in names if found not in a and found not in b] if again else []
        if len(others) >= 3:
            name, middle = bare[again[0]], " ".join(words[: again[0]])
            renamed = [re.sub(rf"\b{name}\b", other, a) for other in rng.sample(others, 3)]
            options = choices(f"{a} {middle}", [f"{version} {middle}" for version in renamed], rng)
            continuation = " ".join(words[again[0] : again[0] + 3])
            yield {"context_options": options["choices"], "gold": options["gold"], "continuation": continuation}


def formula(texts: Texts, source: str, rng: random.Random) -> Iterator[Item]:
    """The word that four words of the training text nearly always lead to."""
    seen: Counter[tuple[str, ...]] = Counter()
    answers: Counter[str] = Counter()
    for text in rng.sample(texts.held_out[source], len(texts.held_out[source])):
        words = text.split()
        for i in range(10, len(words) - 4):
            head = tuple(words[i : i + 4])
            if texts.formulas.get(head) == words[i + 4] and seen[head] < 3 and answers[words[i + 4]] < 40:
                seen[head] += 1
                answers[words[i + 4]] += 1
                context = " ".join(words[max(0, i - rng.randint(2, 14)) : i + 4])
                yield {"context": context, "continuation": words[i + 4]}


def copy(texts: Texts, source: str, rng: random.Random) -> Iterator[Item]:
    """A sentence stands twice: the two words with which its second time goes on."""
    for _, b in texts.pairs(source, 40, 110):
        words = b.split(" ")
        if len(words) >= 9:
            i = rng.randrange(4, len(words) - 3)
            yield {"context": f"{b} {' '.join(words[:i])}", "continuation": " ".join(words[i : i + 2])}


def recall(texts: Texts, source: str, _rng: random.Random) -> Iterator[Item]:
    """The last word of a passage, one that stands in it already (after LAMBADA)."""
    for a, b in texts.passages(source, 300):
        words = b.rstrip(".!?;:,\"'”’)").split(" ")
        if len(words) >= 6 and len(words[-1]) >= 4 and words[-1].lower() in (word.lower() for word in WORD.findall(a)):
            yield {"context": f"{a} {' '.join(words[:-1])}", "continuation": words[-1]}


@dataclass(frozen=True)
class Kind:
    """A task: its type, how many items, the accuracy of chance in percent, and what makes its items."""

    label: str
    type: str
    items: int
    chance: float
    make: Callable[[Texts, str, random.Random], Iterator[Item]]


KINDS = (
    Kind("next_sentence", "multiple_choice", 800, 25.0, next_sentence),
    Kind("last_word", "multiple_choice", 1000, 25.0, last_word),
    Kind("function_word", "multiple_choice", 900, 25.0, function_word),
    Kind("word_order", "multiple_choice", 800, 25.0, word_order),
    Kind("which_context", "schema", 800, 100 / 3, which_context),
    Kind("name_recall", "schema", 400, 25.0, name_recall),
    Kind("formula", "language_modeling", 600, 0.0, formula),
    Kind("copy", "language_modeling", 800, 0.0, copy),
    Kind("recall", "language_modeling", 700, 0.0, recall),
)


def build(texts: Texts, kind: Kind) -> list[Item]:
    """A task's items, mixed: each source gives its share, and where one is too short the others make up for it."""
    rng = random.Random(f"mini-core {kind.label}")  # noqa: S311  (the same draws each time are what is wanted)
    found = {}
    for source in SHARE:
        found[source] = list(kind.make(texts, source, rng))
        rng.shuffle(found[source])
    items, spare = [], []
    for source, share in SHARE.items():
        wanted = round(share * kind.items)
        items += found[source][:wanted]
        spare += found[source][wanted:]
    rng.shuffle(spare)
    items += spare[: kind.items - len(items)]
    rng.shuffle(items)
    return items
