"""What clients ask: conversations whose next turn waits for the answer to the last one."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from slipstream_runtime.evaluate import traffic

WORDS: Final = [word.ljust(4) for word in traffic.WORDS]
"""Four characters each, a token for the engine."""
THINK_LEAST: Final = 0.5
"""Seconds between an answer and the next question."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and the length of its answer, in tokens."""

    user: str
    output: int
    think: float
    """Seconds between the answer before it and this question."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One client: a system prompt and its turns."""

    start: float
    session: str
    system: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """Conversations that start at random times, on so many engines."""

    name: str
    engines: int
    rate: float
    """Conversations per second."""
    make: Callable[[random.Random], tuple[str, tuple[Turn, ...]]]

    def conversations(self, seed: int, *, duration: float) -> Iterator[Conversation]:
        """In order of their start."""
        rng = random.Random(f"{self.name}-{seed}")
        at = rng.expovariate(self.rate)
        number = 0
        while at < duration:
            system, turns = self.make(rng)
            yield Conversation(at, f"{seed}-{number}", system, turns)
            number += 1
            at += rng.expovariate(self.rate)


def text(rng: random.Random, tokens: float) -> str:
    """Words of four characters, a token each."""
    return "".join(rng.choices(WORDS, k=max(1, round(tokens))))


def _lognormal(rng: random.Random, median: float, *, sigma: float, most: float) -> float:
    return min(most, median * rng.lognormvariate(0, sigma))


def _turn(rng: random.Random, *, median: float, output: float) -> Turn:
    return Turn(
        user=text(rng, _lognormal(rng, median, sigma=0.8, most=20 * median)),
        output=1 + round(_lognormal(rng, output, sigma=0.6, most=5 * output)),
        think=THINK_LEAST + rng.expovariate(1 / 5),
    )


def _fixed(name: str, count: int, *, tokens: tuple[int, int]) -> tuple[str, ...]:
    """System prompts, the same for all seeds."""
    rng = random.Random(name)
    return tuple(text(rng, rng.uniform(*tokens)) for _ in range(count))


def multi_turn() -> Workload:
    """Chat: four products with short system prompts, 1 to 12 turns, now and then a pasted document."""
    systems = _fixed("chat", 4, tokens=(200, 600))

    def make(rng: random.Random) -> tuple[str, tuple[Turn, ...]]:
        turns = [
            _turn(rng, median=80, output=150)
            for _ in range(min(12, 1 + int(rng.expovariate(1 / 4))))
        ]
        if rng.random() < 0.3:
            document = text(rng, rng.uniform(2000, 8000))
            turns[0] = Turn(document + turns[0].user, turns[0].output, turns[0].think)
        return rng.choice(systems), tuple(turns)

    return Workload("multi-turn", engines=4, rate=7, make=make)


def shared_prompt() -> Workload:
    """Single questions of 200 tenants, each with a long system prompt, some far busier than others."""
    systems = _fixed("tenants", 200, tokens=(1500, 6000))
    weights = [1 / (rank + 1) ** 0.9 for rank in range(len(systems))]

    def make(rng: random.Random) -> tuple[str, tuple[Turn, ...]]:
        (system,) = rng.choices(systems, weights)
        return system, (_turn(rng, median=120, output=100),)

    return Workload("shared-prompt", engines=8, rate=50, make=make)


def hot_prefix() -> Workload:
    """Half of the requests share one long prompt; the others talk of documents of their own."""
    (hot,) = _fixed("hot", 1, tokens=(3000, 3000))

    def make(rng: random.Random) -> tuple[str, tuple[Turn, ...]]:
        if rng.random() < 0.75:
            return hot, (_turn(rng, median=100, output=150),)
        turns = tuple(_turn(rng, median=100, output=150) for _ in range(rng.randint(1, 5)))
        return text(rng, rng.uniform(1000, 6000)), turns

    return Workload("hot-prefix", engines=4, rate=16, make=make)


ALL: Final = {
    "multi-turn": multi_turn,
    "shared-prompt": shared_prompt,
    "hot-prefix": hot_prefix,
}
