"""Plan of a load run: arrival times and request bodies. Pure."""

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice, takewhile
from typing import Final

from slipstream_runtime.web import openai

Body = Mapping[str, object]

WORDS: Final = (
    "the", "sea", "was", "far", "too", "big", "for", "one", "man", "and", "his", "old",
    "dog", "but", "she", "saw", "how", "red", "sun", "set", "low", "all", "day", "her",
    "cat", "ran", "out", "not", "may", "two", "can", "get", "use", "air", "boy", "car",
    "ask", "few", "job", "law", "new", "try",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of a run: open (Poisson `rate`, or `times`) or closed (`concurrency` clients that never pause)."""

    url: str
    model: str
    duration: float
    rate: float | None = None
    concurrency: int | None = None
    times: tuple[float, ...] | None = None
    """Seconds since the start, in order; times after `duration` are left out."""
    requests: int | None = None
    """Stop after this many requests, even before `duration` ends."""
    prompt_tokens: int = 256
    max_tokens: int = 128
    ignore_eos: bool = False
    prompts: tuple[Body, ...] = ()
    """Bodies with `prompt` or `messages`, which are used in turn instead of generated prompts."""
    connect_retries: int = 1
    """Retries after a connection error or a 503, before any token arrived."""
    timeout: float = 60.0
    """Seconds for one request, its retries included."""
    seed: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if [self.rate, self.concurrency, self.times].count(None) != 2:
            raise ValueError("exactly one of rate, concurrency and times is needed")
        if min(self.rate or 1, self.concurrency or 1, self.duration, self.timeout) <= 0:
            raise ValueError("rate, concurrency, duration and timeout must be positive")
        if self.connect_retries < 0:
            raise ValueError("connect_retries must not be negative")

    def arrivals(self) -> Iterator[float]:
        """Yield the seconds since the start at which an open run sends its requests."""
        times = self._poisson() if self.times is None else self.times
        yield from islice(takewhile(lambda at: at < self.duration, times), self.requests)

    def _poisson(self) -> Iterator[float]:
        assert self.rate is not None
        rng = random.Random(f"arrivals-{self.seed}")  # noqa: S311
        at = 0.0
        while True:
            at += rng.expovariate(self.rate)
            yield at

    def bodies(self) -> Iterator[tuple[str, Body]]:
        """Yield path and body of each request, without end."""
        rng = random.Random(f"prompts-{self.seed}")  # noqa: S311
        for index in count():
            if self.prompts:
                given = self.prompts[index % len(self.prompts)]
            else:
                given = {"messages": [{"role": "user", "content": self._prompt(rng)}]}
            path = openai.CHAT if "messages" in given else openai.COMPLETIONS
            body: dict[str, object] = {"model": self.model, "max_tokens": self.max_tokens, **given}
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            if self.ignore_eos:
                body["ignore_eos"] = True
            yield path, body

    def _prompt(self, rng: random.Random) -> str:
        """Return random short words, which are one token each for most tokenizers."""
        return " ".join(rng.choices(WORDS, k=self.prompt_tokens))


def parse_prompts(lines: Iterable[str]) -> tuple[Body, ...]:
    """Return the prompts of a JSON-lines file; ValueError names an invalid line."""
    prompts: list[Body] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number}: {error}") from None
        if not isinstance(found, dict) or ("prompt" in found) == ("messages" in found):
            raise ValueError(f"line {number}: needs exactly one of prompt and messages")
        prompts.append(found)
    if not prompts:
        raise ValueError("the file has no prompt")
    return tuple(prompts)
