"""What-if: recorded requests with other settings of the service, replayed on engines that behave like its own. Pure."""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from slipstream_operator.core.objectives import Objective
from slipstream_runtime.simulator import model
from slipstream_simulator.recorded import attribution, fitting, fleet
from slipstream_simulator.recorded.attribution import Attained
from slipstream_simulator.recorded.fitting import Fitted
from slipstream_simulator.recorded.fleet import Arrival, Span
from slipstream_simulator.recorded.requests import Recorded

MOST: Final = 100_000
"""Newest requests that are replayed, in up to a minute."""
_TAIL: Final = 0.99
"""Share of the requests that end within the time before the end of the recording in which no request is judged."""
_MEDIAN: Final = 0.5
_LARGEST: Final = 1_048_576
"""Largest value of a setting, as in the InferenceService."""


class RefusedError(ValueError):
    """Error for a setting that a replay can't change."""


@dataclass(frozen=True, slots=True)
class Setting:
    """Settings of the service that decide how a recording is replayed."""

    parameters: model.Parameters
    slots: int | None
    """Requests in flight per replica, if `limits.concurrency` sets it."""
    spans: tuple[Span, ...]
    routers: int = 1
    """Routers, each of which counts its own requests in flight alone."""

    @property
    def capacity(self) -> int:
        """Return the requests in flight per replica from which all routers let others wait."""
        return (self.slots or self.parameters.max_sequences) * self.routers


_Change = Callable[[Setting, int], Setting]


def _replicas(setting: Setting, count: int) -> Setting:
    return replace(setting, spans=(Span(-math.inf),) * count)


def _minimum(setting: Setting, count: int) -> Setting:
    return replace(setting, spans=(*setting.spans, *_missing(setting.spans, count)))


def _sequences(setting: Setting, count: int) -> Setting:
    tokens = max(setting.parameters.max_batched_tokens, count)
    parameters = replace(setting.parameters, max_sequences=count, max_batched_tokens=tokens)
    return replace(setting, parameters=parameters)


def _batched(setting: Setting, count: int) -> Setting:
    sequences = setting.parameters.max_sequences
    if count < sequences:
        raise RefusedError(
            f"batching.maxBatchedTokens: {count} can't be less than maxSequences ({sequences}) because each running "
            "sequence takes one token of a step. Raise maxBatchedTokens, or lower maxSequences."
        )
    return replace(setting, parameters=replace(setting.parameters, max_batched_tokens=count))


def _kv(setting: Setting, count: int) -> Setting:
    return replace(setting, parameters=replace(setting.parameters, kv_tokens=count))


def _concurrency(setting: Setting, count: int) -> Setting:
    return replace(setting, slots=count)


CHANGES: Final[Mapping[str, _Change]] = {
    "replicas": _replicas,
    "scaling.minReplicas": _minimum,
    "batching.maxSequences": _sequences,
    "batching.maxBatchedTokens": _batched,
    "limits.concurrency": _concurrency,
    "simulator.maxSequences": _sequences,
    "simulator.kvTokens": _kv,
}
"""Settings that a replay can change, in the order in which they apply."""
_FIXED: Final = {
    "scaling.maxReplicas": "a replay has no autoscaler; use replicas or scaling.minReplicas, or slipstream simulate",
    "quantization.method": "its effect on step times and answers is not known before it is measured",
    "speculation.tokens": "its effect depends on the accepted tokens, which must be measured",
    "model.uri": "another model has other step times, which must be measured",
}
"""Settings that users may try, and the reason why a replay can't change them."""


def parse(text: str) -> dict[str, int]:
    """Return the changes of a text such as `replicas=3,limits.concurrency=8`; RefusedError if one can't work."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        name = name.removeprefix("spec.")
        if name not in CHANGES:
            reason = _FIXED.get(name, "the replay has no model of it")
            raise RefusedError(
                f'"{name}" can\'t be changed because {reason}. Use {_listed(CHANGES)}.'
            )
        if name in found:
            raise RefusedError(f"{name} is given twice. Give it once.")
        if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= _LARGEST:
            raise RefusedError(
                f'{name}: "{value}" can\'t work because it is no whole number from 1 to {_LARGEST}. '
                f"Use a value such as {name}=4."
            )
        found[name] = int(value)
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """Latencies of the judged requests, in their order, and the share inside each objective."""

    latencies: Sequence[Mapping[str, float | None]]
    attained: Sequence[Attained]
    missed: Sequence[bool]
    """Whether each request missed an objective."""

    @property
    def attainment(self) -> float | None:
        """Return the share of the requests inside all objectives; None without requests."""
        return 1 - sum(self.missed) / len(self.missed) if self.missed else None


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Result of a replay with changed settings."""

    changes: Mapping[str, int]
    fitted: Fitted
    overhead: float
    """Seconds in a replica outside of the engine's steps: network, HTTP, tokenization."""
    replicas: int
    """Most replicas that served at once in the recording."""
    recorded: Outcome
    replayed: Outcome
    """Replay with the present settings, which shows how well the engines are known."""
    changed: Outcome

    @property
    def error(self) -> float | None:
        """Return the difference in attainment between the replay with present settings and the recording."""
        replayed, recorded = self.replayed.attainment, self.recorded.attainment
        return None if replayed is None or recorded is None else replayed - recorded

    @property
    def recovered(self) -> int:
        """Return the number of requests that missed an objective, and would have met all."""
        return sum(
            was and not now
            for was, now in zip(self.recorded.missed, self.changed.missed, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Recording:
    """Requests of a service in a time, and the service that served them."""

    requests: Sequence[Recorded]
    """In order of arrival, with those from before `since`, which are replayed but not judged."""
    since: float
    until: float
    """Time at which the records were read."""
    setting: Setting

    def judged(self) -> list[bool]:
        """Return for each request whether it is judged.

        It must be answered by a replica, and have arrived so early that slow requests of its time have ended as well.
        """
        answered = [one.e2e for one in self.requests if one.answered]
        last = self.until - (attribution.quantile(answered, _TAIL) or 0.0)
        return [
            one.answered and one.replica != "" and self.since <= one.arrived <= last
            for one in self.requests
        ]


def spans(requests: Sequence[Recorded], *, until: float) -> tuple[Span, ...]:
    """Return the time in which each replica took requests: from its first one to its last one.

    A replica that got a request in the newest tenth of the recording still serves.
    """
    used: defaultdict[str, list[float]] = defaultdict(list)
    for one in requests:
        if one.replica:
            used[one.replica].append(one.sent)
    first = min((times[0] for times in used.values()), default=until)
    recent = until - (until - first) / 10
    return tuple(
        Span(min(times), math.inf if max(times) >= recent else max(times))
        for times in used.values()
    )


def study(
    recording: Recording,
    fitted: Fitted,
    changes: Mapping[str, int],
    objectives: Sequence[Objective],
) -> WhatIf:
    """Replay the recording with the present and with the changed settings."""
    setting = replace(recording.setting, parameters=fitted.parameters)
    changed = _changed(setting, changes)  # refuses what can't work before anything is replayed
    pace = _pace(_played(recording, setting))
    fitted = replace(fitted, parameters=_slower(fitted.parameters, pace))
    present = replace(setting, parameters=fitted.parameters)
    changed = _changed(present, changes)
    judged = recording.judged()
    kept = [one for one, counts in zip(recording.requests, judged, strict=True) if counts]
    recorded = _outcome([attribution.latencies(one) for one in kept], objectives)
    before = _played(recording, present)
    overhead = _overhead(before)
    after = _played(recording, changed)
    return WhatIf(
        changes=changes,
        fitted=fitted,
        overhead=overhead,
        replicas=most(present.spans),
        recorded=recorded,
        replayed=_outcome(_latencies(before, judged, overhead=overhead), objectives),
        changed=_outcome(_latencies(after, judged, overhead=overhead), objectives),
    )


_Played = Sequence[tuple[Recorded, fleet.Times]]


def _played(recording: Recording, setting: Setting) -> _Played:
    """Replay the requests that replicas had, and return them all in order of arrival, with their new times."""
    sent = [number for number, one in enumerate(recording.requests) if one.replica]
    sent.sort(key=lambda number: _at_router(recording.requests[number]))
    times = fleet.replay(
        setting.parameters,
        setting.spans,
        [_arrival(recording.requests[number]) for number in sent],
        slots=setting.capacity,
    )
    found = dict(zip(sent, times, strict=True))
    none = fleet.Times()
    return [(one, found.get(number, none)) for number, one in enumerate(recording.requests)]


def _changed(setting: Setting, changes: Mapping[str, int]) -> Setting:
    for name, change in CHANGES.items():
        if name in changes:
            setting = change(setting, changes[name])
    return setting


def _pace(played: _Played) -> float:
    """Return the time in replicas after the first token in the recording, relative to that in the replay.

    Of answers that are no streams, it is all their time in replicas.
    """
    recorded = replayed = 0.0
    for one, times in played:
        if not one.answered or one.output < 2 or times.first is None or times.finished is None:
            continue
        if one.streamed:
            recorded += one.seconds["stream"]
            replayed += times.finished - times.first
        elif times.sent is not None:
            recorded += one.seconds["first"]
            replayed += times.finished - times.sent
    return recorded / replayed if replayed > 0 else 1.0


def _slower(parameters: model.Parameters, factor: float) -> model.Parameters:
    return replace(
        parameters,
        alpha=parameters.alpha * factor,
        beta=parameters.beta * factor,
        gamma=parameters.gamma * factor,
        delta=parameters.delta * factor,
    )


def _overhead(played: _Played) -> float:
    """Return the seconds by which requests were usually longer in their replicas than in the replay."""
    differences = []
    for one, times in played:
        if not one.answered or times.sent is None:
            continue
        end = times.finished if not one.streamed else times.first
        if end is not None:
            differences.append(one.seconds["first"] - (end - times.sent))
    return max(0.0, attribution.quantile(differences, _MEDIAN) or 0.0)


def _latencies(
    played: _Played, judged: Sequence[bool], *, overhead: float
) -> list[dict[str, float | None]]:
    return [
        _latency(one, times, overhead=overhead)
        for (one, times), counts in zip(played, judged, strict=True)
        if counts
    ]


def _at_router(one: Recorded) -> float:
    """Return the time at which the router looked for a replica, after attempts that failed."""
    return one.arrived + one.received + one.seconds["retry"]


def _arrival(one: Recorded) -> Arrival:
    prompt, output = max(1, one.prompt), max(1, one.output)
    return Arrival(_at_router(one), prompt, output, fitting.cached(one))


def _latency(one: Recorded, times: fleet.Times, *, overhead: float) -> dict[str, float | None]:
    """Return the latencies of a replayed request that are known of the recorded one; inf if it never ended."""
    first = math.inf if times.first is None else times.first - one.arrived + overhead
    ended = math.inf if times.finished is None else times.finished - one.arrived + overhead
    tpot = (ended - first) / (one.output - 1) if one.output > 1 and ended < math.inf else math.inf
    return {
        "ttft": None if one.ttft is None else first,
        "tpot": None if one.tpot is None else tpot,
        "e2e": ended + one.seconds["client"],
    }


def _outcome(
    latencies: Sequence[Mapping[str, float | None]], objectives: Sequence[Objective]
) -> Outcome:
    targets = attribution.limits(objectives)
    return Outcome(
        latencies=latencies,
        attained=attribution.attained(latencies, objectives),
        missed=[attribution.missed(one, targets) for one in latencies],
    )


def most(spans: Sequence[Span]) -> int:
    """Return the most replicas that serve at once."""
    return max((count for _, _, count in _counts(spans)), default=0)


def _counts(spans: Sequence[Span]) -> list[tuple[float, float, int]]:
    """Return the number of replicas over all time, as start, end and count."""
    changes: Counter[float] = Counter()
    for span in spans:
        changes[span.start] += 1
        changes[span.end] -= 1
    edges = sorted({-math.inf, *changes, math.inf})
    count, found = 0, []
    for start, end in itertools.pairwise(edges):
        count += changes[start]
        found.append((start, end, count))
    return found


def _missing(spans: Sequence[Span], minimum: int) -> list[Span]:
    """Return the replicas that must serve in addition, so that there are never fewer than the minimum."""
    return [
        Span(start, end)
        for start, end, count in _counts(spans)
        for _ in range(max(0, minimum - count))
    ]


def _listed(names: Mapping[str, object]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"
