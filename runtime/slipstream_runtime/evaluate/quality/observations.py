"""Requests to a model and what it answers: a text, likelihoods of continuations, or the likelihood of a text. Pure."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol

from slipstream_runtime.evaluate.quality.items import Message


class Kind(StrEnum):
    """Kind of a request."""

    ANSWER = "answer"
    CHOICES = "choices"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Request:
    """Request of an evaluation, the same for every model that is asked."""

    kind: Kind
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    """Prompt as written, without the model's chat template; None if `messages` are given."""
    continuations: tuple[str, ...] = ()
    text: str = ""
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    top: int = 0
    """Number of the likeliest first tokens whose log-probabilities are reported."""

    @property
    def key(self) -> str:
        """Hash of the content, by which a journal finds the observation again."""
        content = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:32]

    def split(self, continuation: str) -> tuple[str, str]:
        """Return the prompt and the continuation, which takes the prompt's last spaces, as lm-evaluation-harness does.

        A tokenizer has tokens that begin with a space. So the tokens of the two differ from those of the whole text.
        """
        assert self.prompt is not None
        before = self.prompt.rstrip()
        return before, self.prompt[len(before) :] + continuation


@dataclass(frozen=True, slots=True)
class Observation:
    """Answer of a model to one request. Log-probabilities are natural; times in seconds."""

    text: str = ""
    tokens: tuple[str, ...] = ()
    """Tokens of the answer; empty unless first tokens were asked for."""
    first: Mapping[str, float] | None = None
    """Likeliest first tokens with their log-probabilities."""
    finish: str = ""
    likelihoods: tuple[tuple[float, int, bool], ...] = ()
    """For each continuation, or the text: log-probability, number of tokens, whether each token was the likeliest."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    error: str | None = None
    """Reason for which the model refused this request; None if it answered."""

    def as_json(self) -> dict[str, Any]:
        """Return plain data without fields at their defaults."""
        return {
            name: value for name, value in asdict(self).items() if value not in ("", (), 0, None)
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Observation":
        """Return the observation of the data of `as_json`; LookupError, TypeError or ValueError if it is none."""
        entry = dict(data)
        entry["tokens"] = tuple(entry.get("tokens", ()))
        entry["likelihoods"] = tuple(
            (float(total), int(tokens), bool(greedy))
            for total, tokens, greedy in entry.get("likelihoods", ())
        )
        return cls(**entry)


class Subject(Protocol):
    """Model under evaluation, or the one that judges."""

    def ask(self, requests: Sequence[Request]) -> AsyncIterator[tuple[Request, Observation]]:
        """Yield the observations as they arrive, in any order. EngineError if the model can't be asked at all."""
        ...
