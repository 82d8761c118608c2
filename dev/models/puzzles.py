"""The harder language: facts by two names, sums with carries, sums of what is looked up, and old questions.

A question belongs to the held-out split or to the training split by a hash of what it asks, so the
two can never overlap. Standard library only.
"""

import random
from collections.abc import Iterator
from typing import Final

from dev.models import language
from dev.models.language import ANIMALS, CITIES, COLOURS, Item, Tasks

FIRST: Final = language.PEOPLE[:12]
FAMILIES: Final = CITIES[:16]
TOWNS: Final = CITIES[16:40]
_rng = random.Random(7)
PEOPLE: Final = {
    f"{first} {family}": {
        "town": _rng.choice(TOWNS),
        "pet": _rng.choice(ANIMALS),
        "colour": _rng.choice(COLOURS),
    }
    for family in FAMILIES
    for first in FIRST
}
"""Each first name with each family name, so that only both together name a person."""

WORDINGS: Final = {
    "town": ("Where is {}?", "Name the city of {}.", "The city of {}?", "Tell me the city of {}."),
    "pet": ("Which pet has {}?", "Name the pet of {}.", "The pet of {}?", "Tell me the pet of {}."),
    "colour": (
        "Which colour has {}?",
        "Name the colour of {}.",
        "The colour of {}?",
        "Tell me the colour of {}.",
    ),
}
ALL_ABOUT: Final = ("Tell me about {}.", "Describe {}.", "What is known of {}?", "Sum up {}.")


def _person(rng: random.Random) -> Item:
    person = rng.choice(list(PEOPLE))
    facts = PEOPLE[person]
    if rng.random() < 0.3:
        prompt = rng.choice(ALL_ABOUT).format(person)
        answer = (
            f"The city of {person} is {facts['town']}, the colour is {facts['colour']} "
            f"and the pet is the {facts['pet']}."
        )
        return Item("person", prompt, answer, prompt)
    name = rng.choice(list(WORDINGS))
    prompt = rng.choice(WORDINGS[name]).format(person)
    return Item("person", prompt, facts[name], prompt)


def _two_digits(rng: random.Random) -> tuple[int, str, int, int]:
    a, b = rng.randrange(100), rng.randrange(100)
    if rng.random() < 0.5:
        return a, "+", b, a + b
    a, b = max(a, b), min(a, b)
    return a, "-", b, a - b


def _sum(rng: random.Random) -> Item:
    a, sign, b, answer = _two_digits(rng)
    question = f"{a} {sign} {b}"
    prompt = rng.choice(("What is {}?", "{} = ?", "Compute {}."))
    return Item("sum", prompt.format(question), str(answer), question)


def _steps(rng: random.Random) -> Item:
    """A look-up, and a sum with what it finds; the split of the sum decides, so that no answer gives one away."""
    a, sign, b, answer = _two_digits(rng)
    others = {
        "name": rng.choice(language.PEOPLE),
        "city": rng.choice(CITIES),
        "colour": rng.choice(COLOURS),
        "pet": rng.choice(ANIMALS),
    }
    names = rng.sample(list(others), rng.randrange(1, 4))
    record = [f"{name} {others[name]}" for name in names]
    record.insert(rng.randrange(len(record) + 1), f"age {a}")
    prompt = f"Record: {', '.join(record)}. What is the age {sign} {b}?"
    question = f"{a} {sign} {b}"
    return Item("steps", prompt, f"{question} = {answer}", question)


TASKS: Final[Tasks] = {
    "person": _person,
    "sum": _sum,
    "steps": _steps,
    "lookup": language.TASKS["lookup"],
    "json": language.TASKS["json"],
}
MIX: Final = {"person": 6, "sum": 6, "steps": 4, "lookup": 1, "json": 1}
"""Shares of the tasks in training."""
_TURNS: Final = 3
_SHORTEST: Final = 60
"""Characters of short questions of every task."""
HELD_OUT: Final = {"person": 300, "sum": 300, "steps": 200, "lookup": 100, "json": 100}
"""Questions of each task in the held-out file."""
TRAINING: Final = {"person": 1200, "sum": 1200, "steps": 800, "lookup": 400, "json": 400}
"""Questions of each task in the file for calibration, healing and distillation."""


def questions(rng: random.Random, longest: int) -> list[Item]:
    """A few training questions, none too long."""
    items = []
    for task in rng.choices(list(MIX), list(MIX.values()), k=rng.randrange(1, _TURNS + 1)):
        item = language.draw(rng, task=task, held_out=False, tasks=TASKS)
        while len(item.prompt) > max(longest, _SHORTEST):
            item = language.draw(rng, task=task, held_out=False, tasks=TASKS)
        items.append(item)
    return items


def held_out() -> Iterator[Item]:
    """Distinct held-out questions, task by task."""
    return language.distinct(HELD_OUT, seed=0, held_out=True, tasks=TASKS)


def training() -> list[Item]:
    """Distinct training questions, shuffled, so that each part of the file has every task."""
    items = list(language.distinct(TRAINING, seed=1, held_out=False, tasks=TASKS))
    random.Random(1).shuffle(items)
    return items
