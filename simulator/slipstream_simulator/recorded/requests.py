"""Requests that routers recorded, with the times inside the engines where those recorded them, too."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

_ANSWERED: Final = "answered"
_REFUSED: Final = 400
"""Status from which an answer is an error."""
_BEFORE: Final = ("queue", "wake", "retry")
"""Causes of the router's records before a replica gets the request."""
_CAUSES: Final = (*_BEFORE, "router", "first", "stream", "client")
_CLOCKS: Final = 5.0
"""Most seconds by which the clocks of two nodes differ."""


class UnreadableRecordError(ValueError):
    """Error for a line that is no record."""


@dataclass(frozen=True, slots=True)
class EngineTimes:
    """Times of a request in its engine, in seconds by the engine's causes; None is unknown."""

    arrived: float
    replica: str
    """Pod whose engine it is."""
    first: Mapping[str, float] | None
    """Until the first token; None if there was none."""
    rest: Mapping[str, float]
    """After it."""
    prompt: int
    output: int
    cached: int | None
    """Prompt tokens from the prefix cache."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Request of a router's record. Times are in seconds, and `arrived` since the epoch."""

    digest: str
    """Digest of the request's id."""
    arrived: float
    replica: str
    """Pod that got the request last; empty if none did."""
    status: int
    outcome: str
    retries: int
    seconds: Mapping[str, float]
    """Seconds of each cause, by the router's names."""
    streamed: bool
    """Whether the answer was a stream of events, so that its first byte was its first token."""
    prompt: int
    output: int
    engine: EngineTimes | None = None

    @property
    def answered(self) -> bool:
        """Whether the client got a whole answer that is no error."""
        return self.outcome == _ANSWERED and self.status < _REFUSED

    @property
    def refused(self) -> bool:
        """Whether the client got an error."""
        return self.outcome == _ANSWERED and self.status >= _REFUSED

    @property
    def waited(self) -> float:
        """Seconds until the replica that answered got the request, without the router's own."""
        return sum(self.seconds[cause] for cause in _BEFORE)

    @property
    def received(self) -> float:
        """Seconds of the router's own until then: nearly all, since it reads and checks a request at its arrival."""
        return self.seconds["router"]

    @property
    def sent(self) -> float:
        """Time at which the replica that answered got the request."""
        return self.arrived + self.waited + self.received

    @property
    def ended(self) -> float:
        """Time of the end of the answer."""
        return self.arrived + self.e2e

    @property
    def ttft(self) -> float | None:
        """Seconds to the first token; None if neither the router nor the engine knows it."""
        if self.streamed:
            return self.waited + self.received + self.seconds["first"]
        if self.engine is None or self.engine.first is None:
            return None
        return self.waited + self.received + sum(self.engine.first.values())

    @property
    def tpot(self) -> float | None:
        """Mean seconds between output tokens, without waiting for the client; None if it is unknown."""
        if self.output < 2:
            return None
        if self.streamed:
            return self.seconds["stream"] / (self.output - 1)
        if self.engine is None or self.engine.first is None:
            return None
        return sum(self.engine.rest.values()) / (self.output - 1)

    @property
    def e2e(self) -> float:
        """Seconds to the end of the answer."""
        return sum(self.seconds.values())

    def latency(self, metric: str) -> float | None:
        """Return the latency of a metric of objectives: ttft, tpot or e2e."""
        found: float | None = getattr(self, metric)
        return found


def read(lines: Iterable[str | bytes]) -> list[Recorded]:
    """Return the requests of a router's JSON lines, the oldest first; UnreadableRecordError if a line is no record."""
    found = [_parsed(line, _recorded) for line in lines if line.strip()]
    found.sort(key=lambda one: one.arrived)
    return found


def read_engine(lines: Iterable[str | bytes], *, replica: str) -> list[tuple[str, EngineTimes]]:
    """Return digest and times of the requests of an engine's JSON lines; UnreadableRecordError as for a router."""
    return [
        _parsed(line, lambda fields: _engine_times(fields, replica))
        for line in lines
        if line.strip()
    ]


def join(
    requests: Sequence[Recorded], engines: Iterable[tuple[str, EngineTimes]]
) -> list[Recorded]:
    """Return the requests with the times of the engines that answered them, where these are known."""
    by_digest: defaultdict[tuple[str, str], list[EngineTimes]] = defaultdict(list)
    for digest, times in engines:
        by_digest[digest, times.replica].append(times)
    return [_joined(one, by_digest.get((one.digest, one.replica), ())) for one in requests]


def _joined(one: Recorded, found: Sequence[EngineTimes]) -> Recorded:
    """Return the request with its engine's times and tokens, which the router may have estimated.

    Of several requests with one id, the nearest in time counts.
    """
    if not found:
        return one
    nearest = min(found, key=lambda times: abs(times.arrived - one.sent))
    if abs(nearest.arrived - one.sent) > _CLOCKS:
        return one
    prompt, output = nearest.prompt or one.prompt, nearest.output or one.output
    return replace(one, engine=nearest, prompt=prompt, output=output)


def _parsed(line: str | bytes, parse: Any) -> Any:
    try:
        return parse(json.loads(line))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UnreadableRecordError(
            f"a line is no record of a request ({type(error).__name__}: {error})"
        ) from error


def _recorded(fields: Mapping[str, Any]) -> Recorded:
    return Recorded(
        digest=str(fields["request"]),
        arrived=float(fields["arrived"]),
        replica=str(fields["replica"]),
        status=int(fields["status"]),
        outcome=str(fields["outcome"]),
        retries=int(fields["retries"]),
        seconds={cause: float(fields["seconds"][cause]) for cause in _CAUSES},
        streamed=bool(fields["streamed"]),
        prompt=int(fields["promptTokens"]),
        output=int(fields["outputTokens"]),
    )


def _engine_times(fields: Mapping[str, Any], replica: str) -> tuple[str, EngineTimes]:
    whole = {str(cause): float(value) for cause, value in fields["seconds"].items()}
    first = {str(cause): float(value) for cause, value in fields["firstSeconds"].items()}
    cached = fields.get("cachedTokens")
    known = any(first.values())
    times = EngineTimes(
        arrived=float(fields["arrived"]),
        replica=replica,
        first=first if known else None,
        rest={cause: max(0.0, whole[cause] - first.get(cause, 0.0)) for cause in whole},
        prompt=int(fields["promptTokens"]),
        output=int(fields["outputTokens"]),
        cached=None if cached is None else int(cached),
    )
    return str(fields["request"]), times
