"""The small language the models learn: questions whose one right answer can be computed.

Everything is drawn from a generator that the caller seeds. A question belongs to the held-out split
or to the training split by a hash of what it asks, so the two can never overlap. Standard library
only: tests and load generators import this without torch.
"""

import json
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ONSETS = _words("b br d dr f g gr k l m n p r s st t v z")
_VOWELS = _words("a e i o u")
_CODAS = _words("l m n r s th")


def _invent(rng: random.Random, count: int, tail: str) -> tuple[str, ...]:
    names: dict[str, None] = {}
    while len(names) < count:
        syllables = [rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(2)]
        names["".join(syllables).capitalize() + rng.choice(_CODAS) + tail] = None
    return tuple(names)


_rng = random.Random(20)
PLACES = _invent(_rng, 32, "ia")
CITIES = _invent(_rng, 48, "")
COLOURS = _words("red blue green white black amber violet silver gold pink")
ANIMALS = _words("fox owl bear hawk lynx otter wolf crane seal stag")
PEOPLE = _words("Ada Bruno Clara Dora Emil Frida Gus Hanna Ivo Jana Karl Lena Mira Nils Olga")

FACTS = {
    place: {"capital": city, "colour": _rng.choice(COLOURS), "animal": _rng.choice(ANIMALS)}
    for place, city in zip(PLACES, _rng.sample(CITIES, len(PLACES)), strict=True)
}


@dataclass(frozen=True)
class Item:
    """One question and its only right answer; `key` is what the split hashes."""

    task: str
    prompt: str
    answer: str
    key: str

    @property
    def is_held_out(self) -> bool:
        return zlib.crc32(self.key.encode()) % 8 == 0


def _fact(rng: random.Random) -> Item:
    place = rng.choice(PLACES)
    facts = FACTS[place]
    if rng.random() < 0.25:
        prompt = rng.choice(
            ["Tell me about {}.", "Describe {}.", "What is known of {}?", "Sum up {}."]
        )
        prompt = prompt.format(place)
        answer = (
            f"The capital of {place} is {facts['capital']}, its colour is {facts['colour']} "
            f"and its animal is the {facts['animal']}."
        )
        return Item("fact", prompt, answer, prompt)
    name = rng.choice(list(facts))
    prompt = rng.choice(
        ["What is the {} of {}?", "Name the {} of {}.", "The {} of {}?", "Tell me the {} of {}."]
    )
    prompt = prompt.format(name, place)
    return Item("fact", prompt, facts[name], prompt)


_FIELDS: dict[str, Callable[[random.Random], object]] = {
    "name": lambda rng: rng.choice(PEOPLE),
    "city": lambda rng: rng.choice(CITIES),
    "colour": lambda rng: rng.choice(COLOURS),
    "pet": lambda rng: rng.choice(ANIMALS),
    "age": lambda rng: rng.randrange(1, 100),
    "ok": lambda rng: rng.random() < 0.5,
}
_LOOK_UPS = ("What is the {}?", "Which {} is it?", "Look up the {}.")


def _lookup(rng: random.Random) -> Item:
    names = rng.sample(["name", "city", "colour", "pet", "age"], rng.randrange(2, 6))
    record = {name: str(_FIELDS[name](rng)) for name in names}
    key = rng.choice(names)
    listed = ", ".join(f"{name} {value}" for name, value in record.items())
    prompt = f"Record: {listed}. {rng.choice(_LOOK_UPS).format(key)}"
    return Item("lookup", prompt, record[key], prompt)


def follow_up(rng: random.Random, *, item: Item) -> Item:
    """A later turn's question about the record of a look-up."""
    listed = item.prompt.partition(": ")[2].partition(". ")[0]
    record = dict(pair.split(" ") for pair in listed.split(", "))
    key = rng.choice(list(record))
    return Item("lookup", rng.choice(_LOOK_UPS).format(key), record[key], item.key)


def _sum(rng: random.Random) -> Item:
    a, b = rng.randrange(100), rng.randrange(10)
    if rng.random() < 0.5:
        sign, answer = "+", a + b
    else:
        a, b = max(a, b), min(a, b)
        sign, answer = "-", a - b
    question = f"{a} {sign} {b}"
    prompt = rng.choice(["What is {}?", "{} = ?", "Compute {}."])
    return Item("sum", prompt.format(question), str(answer), question)


def _json(rng: random.Random) -> Item:
    record = {name: _FIELDS[name](rng) for name in rng.sample(list(_FIELDS), rng.randrange(2, 6))}
    listed = ", ".join(
        f"{name}={json.dumps(value) if isinstance(value, bool) else value}"
        for name, value in record.items()
    )
    prompt = rng.choice(["Give JSON with {}.", "Write JSON: {}.", "Make a JSON object of {}."])
    prompt = prompt.format(listed)
    return Item("json", prompt, json.dumps(record, separators=(",", ":")), prompt)


Tasks = Mapping[str, Callable[[random.Random], Item]]
"""Task -> what draws one of its questions, of either split."""
TASKS: Tasks = {
    "fact": _fact,
    "lookup": _lookup,
    "sum": _sum,
    "json": _json,
}


def draw(rng: random.Random, *, task: str, held_out: bool, tasks: Tasks = TASKS) -> Item:
    """One question of a task, from one split."""
    while True:
        item = tasks[task](rng)
        if item.is_held_out == held_out:
            return item


HELD_OUT = {"fact": 40, "lookup": 120, "sum": 120, "json": 120}
"""Questions of each task in the held-out file; there are not many facts to hold back wordings of."""


def held_out(*, seed: int = 0) -> Iterator[Item]:
    """Distinct held-out questions, task by task."""
    return distinct(HELD_OUT, seed=seed, held_out=True)


def distinct(
    counts: Mapping[str, int], *, seed: int, held_out: bool, tasks: Tasks = TASKS
) -> Iterator[Item]:
    """Different questions of one split, in these numbers by task."""
    rng = random.Random(seed)
    seen: set[str] = set()
    for task, count in counts.items():
        for _ in range(count):
            item = draw(rng, task=task, held_out=held_out, tasks=tasks)
            while item.prompt in seen:
                item = draw(rng, task=task, held_out=held_out, tasks=tasks)
            seen.add(item.prompt)
            yield item
